"""The work of both sides of a comparison: the model, the batch, the optimizer's settings."""

BASE_MODEL = "accounts/fireworks/models/qwen3-8b"
MOE_MODEL = "accounts/fireworks/models/qwen3-30b-a3b"
BATCH, LENGTH = 8, 128
ADAM: dict[str, float] = {
    "learning_rate": 1e-4,
    "beta1": 0.9,
    "beta2": 0.95,
    "eps": 1e-8,
    "weight_decay": 0.0,
    "grad_clip_norm": 1.0,
}
