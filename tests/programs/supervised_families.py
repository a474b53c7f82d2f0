"""Supervised training on a chat in each family's form: the cookbook's renderer where there is one, else the template.

Usage: supervised_families.py STEPS MODEL=TOKENIZER... Prints one line of JSON.
"""

import json
import sys
import warnings
from importlib.util import find_spec
from typing import Any

from fireworks.training.sdk.client import FiretitanServiceClient

from tests.programs import loopback
from tests.programs.steps import close
from tests.sdk import types

MODELS = "accounts/fireworks/models/"
CHAT = [{"role": "user", "content": "Which bird is it?"}, {"role": "assistant", "content": "A grey heron."}]


def rendered(name: str) -> tuple[str, list[int], list[float]]:
    """Render the chat; returns the name of the renderer, the tokens, and the weight of each."""
    if find_spec("tinker_cookbook") is not None:
        from tinker_cookbook import model_info, renderers
        from tinker_cookbook.tokenizer_utils import get_tokenizer

        try:
            kind = model_info.get_recommended_renderer_name(name)
        except (KeyError, ValueError, RuntimeError):
            kind = ""
        if kind:
            tokens, weights = renderers.get_renderer(kind, get_tokenizer(name)).build_supervised_example(CHAT)
            return kind, tokens.to_ints(), [float(weight) for weight in weights]
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(name)
    settings: dict[str, Any] = {"return_dict": False, "enable_thinking": False}
    prompt = words.apply_chat_template(CHAT[:1], add_generation_prompt=True, **settings)
    whole = words.apply_chat_template(CHAT, **settings)
    return "template", whole, [0.0] * len(prompt) + [1.0] * (len(whole) - len(prompt))


def main(steps: int, pairs: list[str]) -> None:
    warnings.simplefilter("ignore")  # the cookbook's imports
    loopback.stay()
    told: dict[str, Any] = {}
    for pair in pairs:
        service = FiretitanServiceClient()
        model, _, name = pair.partition("=")
        kind, tokens, weights = rendered(name)
        size = [len(tokens) - 1]
        inputs = {
            "target_tokens": types.TensorData(data=tokens[1:], dtype="int64", shape=size),
            "weights": types.TensorData(data=weights[1:], dtype="float32", shape=size),
        }
        datum = types.Datum(model_input=types.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs)
        client = service.create_lora_training_client(MODELS + model, rank=8, seed=1)
        losses = []
        for _ in range(steps):
            done = client.forward_backward([datum], "cross_entropy")
            client.optim_step(types.AdamParams(learning_rate=0.005)).result()
            rows = done.result().loss_fn_outputs[0]["logprobs"].data
            trained = [value for value, weight in zip(rows, weights[1:], strict=True) if weight]
            losses.append(-sum(trained) / len(trained))
        told[name] = {"renderer": kind, "losses": losses}
        close(service)
    print(json.dumps(told))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
