"""The layers of a model, so wrapped that they keep less for the backward, or are compiled."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from emulator.backend import BackendError
from emulator.core import own_warnings
from ftsim.compute import libraries
from ftsim.compute.execution import Execution
from ftsim.compute.quiet import quiet
from ftsim.compute.standins.model import Layer, StandIn

_SHAPES = 1 << 16
"""Shapes of a layer that torch compiles before it would go on uncompiled, with other last bits."""


def wrap(model: nn.Module, how: Execution) -> None:
    """Let the layers of a model run as `how` says; raises `BackendError` for a model that cannot."""
    if not (how.checkpointing or how.compiled):
        return
    layers = layers_of(model)
    if not layers:
        raise BackendError(f"{type(model).__name__} has no layers that are known: compute it without {how.words()!r}")
    if how.compiled:
        with quiet():
            _check_compiler(layers[0])
    for layer in layers:
        forward = layer.forward
        if how.compiled:
            forward = _compiled(forward)
        if how.checkpointing:
            forward = _recomputed(forward)
        layer.forward = forward


def layers_of(model: nn.Module) -> Sequence[nn.Module]:
    """The layers of a model; empty for one whose layers are not known."""
    if isinstance(model, StandIn):
        return [module for module in model.modules() if isinstance(module, Layer)]
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def _compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, compiled for each shape when it comes; torch warns of itself meanwhile."""
    with quiet():
        compiled = torch.compile(forward, dynamic=False)

    def run(*args: Any, **named: Any) -> Any:
        with own_warnings.ignored():
            return compiled(*args, **named)

    return run


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, of which nothing but its inputs is kept where gradients are wanted. It draws no numbers."""

    @wraps(forward)
    def run(*args: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **named)
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **named)

    return run


def _check_compiler(layer: nn.Module) -> None:
    """Prepare torch's compiler; raises `BackendError` where it lacks the compiler that it needs on a CPU."""
    libraries.import_meta()
    import torch._dynamo
    from torch._inductor import cpp_builder, exc

    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = _SHAPES
    if next(layer.parameters()).device.type != "cpu":
        return
    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler:
        raise BackendError(
            "'compile' needs a C++ compiler on a CPU: install g++, or compute without it", "server"
        ) from None
