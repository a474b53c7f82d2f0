"""The layers of a model below its head, whatever the class of its family calls them."""

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def body_of(model: "PreTrainedModel") -> nn.Module:
    """The module whose `last_hidden_state` the head of `model` is given.

    A family whose class names its body as it stands inside another one (Llama 4) gives itself as `base_model`.
    """
    whole: Any = model
    body: nn.Module = whole.base_model
    return whole.model if body is model else body
