#!/usr/bin/env bash
# tinker-cookbook 0.6.1 (tinker 0.38.0, Python 3.11): a supervised run that was interrupted trains the batch behind each
# periodic save a second time.
#
# The save of step N is asked for when step N's own optimizer step, and that of the batch submitted ahead, have already
# gone to the trainer; what is written beside it says that the run goes on with batch N. So a save named 000002 holds
# three steps (four with the default submit_ahead=1), and a resume begins with batch 2 again.
#
# Guessed before: the save of step N holds N steps, or a resume begins with N + 1: every batch is trained once.
#
# Output seen:
#   submit_ahead 0: before save 000002 batches 0 1 2 were trained; after the resume 2 3 4 5
#   submit_ahead 1: before save 000002 batches 0 1 2 3 were trained; after the resume 2 3 4 5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 2> /dev/null
"$folder/venv/bin/pip" install -q tinker==0.38.0 sniffio distro transformers==5.23.0 blobfile chz cloudpickle datasets pillow pyrage termcolor tiktoken tml-renderers
"$folder/venv/bin/pip" install -q --no-deps tinker-cookbook==0.6.1
cat > "$folder/show.py" <<'PYTHON'
import asyncio
import logging
import sys
import tempfile
import warnings
from types import SimpleNamespace

warnings.simplefilter("ignore")
import chz
import numpy as np
import tinker
from tinker_cookbook.supervised import train
from tinker_cookbook.supervised.types import SupervisedDataset, SupervisedDatasetBuilder

logging.disable(logging.CRITICAL)
calls = []


def datum(batch):
    """Two tokens; the first one says which batch it is."""
    inputs = {"target_tokens": np.array([1, 2]), "weights": np.array([1.0, 1.0], dtype=np.float32)}
    return tinker.Datum(model_input=tinker.ModelInput.from_ints([batch, 1]), loss_fn_inputs=inputs)


class Batches(SupervisedDataset):
    def get_batch(self, index):
        return [datum(index)]

    def set_epoch(self, seed=0):
        pass

    def __len__(self):
        return 6


@chz.chz
class Builder(SupervisedDatasetBuilder):
    def __call__(self):
        return Batches(), None


async def later(value):
    return value


class Trainer:
    """Writes down what it is asked for, in the order in which it is asked."""

    def forward_backward(self, data, loss_fn):
        calls.append(data[0].model_input.to_ints()[0])
        scores = tinker.TensorData.from_numpy(np.array([-1.0, -1.0], dtype=np.float32))
        return later(SimpleNamespace(loss_fn_outputs=[{"logprobs": scores}], metrics={}))

    def optim_step(self, adam_params):
        return later(SimpleNamespace(metrics={}))

    def save_state(self, name, **more):
        calls.append(name)
        return later(SimpleNamespace(path=f"tinker://run/weights/{name}"))

    def save_weights_for_sampler(self, name, **more):
        return later(SimpleNamespace(path=f"tinker://run/sampler_weights/{name}"))


class Service:
    def __init__(self, **more):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def create_lora_training_client(self, **more):
        return later(Trainer())

    def create_training_client_from_state_with_optimizer(self, path, **more):
        return later(Trainer())


train.tinker = SimpleNamespace(**{**vars(tinker), "ServiceClient": Service})
train.get_tokenizer = lambda name: SimpleNamespace(decode=lambda tokens, **more: " ".join(map(str, tokens)))


def told(submit_ahead):
    with tempfile.TemporaryDirectory() as folder:
        config = train.Config(
            log_path=folder, model_name="Qwen/Qwen3-8B", recipe_name="rows", dataset_builder=Builder(), num_epochs=1,
            save_every=2, eval_every=0, infrequent_eval_every=0, submit_ahead=submit_ahead,
        )
        asyncio.run(train.main(config))
        before = calls[: calls.index("000002")]
        calls.clear()
        path = f"{folder}/checkpoints.jsonl"
        first = open(path).readline()
        open(path, "w").write(first)  # the run was interrupted behind its first save
        asyncio.run(train.main(config))
        after = [call for call in calls if isinstance(call, int)]
        calls.clear()
        words = " ".join(map(str, before)), " ".join(map(str, after))
        return f"before save 000002 batches {words[0]} were trained; after the resume {words[1]}"


seen = [told(0), told(1)]
for ahead, line in enumerate(seen):
    print(f"submit_ahead {ahead}: {line}")
expected = [
    "before save 000002 batches 0 1 2 were trained; after the resume 2 3 4 5",
    "before save 000002 batches 0 1 2 3 were trained; after the resume 2 3 4 5",
]
sys.exit(0 if seen == expected else "the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" 2>&1 | grep 'submit_ahead\|changed\|Error'
