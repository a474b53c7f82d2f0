"""The real trainer: forward, forward_backward and optim_step in torch, LoRA and full-parameter."""
