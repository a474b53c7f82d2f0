"""The backend that really computes: models, trainer, sampler, and the checkpoint files they write and read."""
