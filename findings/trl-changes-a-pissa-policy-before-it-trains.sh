#!/usr/bin/env bash
# trl 1.16.0, peft 0.21.2, transformers 5.24.0, torch 2.13.0 (seen on 2026-11-30, Python 3.11, CPU)
#
# An adapter that was begun with `init_lora_weights="pissa"` (or "olora") and saved opens to what it was, since peft takes the
# adapter's start out of the base's weights again. `DPOTrainer` over such a model, without a `ref_model`, adds a second adapter with
# the same settings for the reference, and with it takes a start out of the base once more: the model that is to be trained
# computes something else as soon as the trainer is made. The reference is a copy, so it is as wrong, and the first loss is the
# usual 0.6931: no number tells. What is saved in the end is an adapter for this changed base, which nobody keeps; it
# opens over the ordinary base to a third model. The trainers of KTO, GRPO and RLOO have the same lines.
#
# We had expected a trainer to leave its model as it is given. The cure is to convert the adapter when it is saved
# (`path_initial_model_for_weight_conversion`), or to merge it first.
#
# Output seen (learning rate 0, one step):
#   default  opened as saved: True, kept by DPOTrainer(): True, first loss 0.6931, its save opens to what was trained: True
#   pissa    opened as saved: True, kept by DPOTrainer(): False, first loss 0.6931, its save opens to what was trained: False
#   olora    opened as saved: True, kept by DPOTrainer(): False, first loss 0.6931, its save opens to what was trained: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q trl==1.16.0 peft==0.21.2 transformers==5.24.0 datasets==5.2.0
cat > look.py <<'PY'
import warnings

import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging
from trl import DPOConfig, DPOTrainer

warnings.simplefilter("ignore")
logging.set_verbosity_error()
logging.disable_progress_bar()
disable_progress_bars()
WORDS = ["<pad>", "<eos>", *(f"w{number}" for number in range(30))]
SIZES = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
torch.manual_seed(0)
LlamaForCausalLM(LlamaConfig(**SIZES, initializer_range=0.2)).save_pretrained("base")
words = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<pad>"))
words.pre_tokenizer = Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")
pairs = Dataset.from_list([{"prompt": "w1 w2", "chosen": " w3 w4", "rejected": " w5 w6"}] * 4)


def base():
    return AutoModelForCausalLM.from_pretrained("base")


@torch.no_grad()
def logits(model):
    return model.eval()(torch.tensor([[3, 4, 5, 6]])).logits


def same(one, other):
    return torch.allclose(one, other, atol=1e-3)


def look(name, start):
    torch.manual_seed(1)
    made = get_peft_model(base(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=start))
    for value in made.parameters():
        if value.requires_grad:
            value.data += 0.2 * torch.randn_like(value)
    made.save_pretrained(name)
    right = logits(made)

    policy = PeftModel.from_pretrained(base(), name, is_trainable=True)
    seen = [same(logits(policy), right)]
    arguments = DPOConfig(
        f"out-{name}", max_steps=1, per_device_train_batch_size=4, learning_rate=0.0, logging_steps=1,
        save_strategy="no", report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True,
    )
    trainer = DPOTrainer(model=policy, args=arguments, train_dataset=pairs, processing_class=tokenizer)
    trainer.callback_handler.callbacks = [one for one in trainer.callback_handler.callbacks if "Print" not in str(one)]
    trained = logits(policy)
    seen.append(same(trained, right))
    trainer.train()
    loss = trainer.state.log_history[0]["loss"]
    policy.save_pretrained(f"saved-{name}")
    again = logits(PeftModel.from_pretrained(base(), f"saved-{name}"))
    seen.append(same(again, trained))
    print(
        f"{name:8} opened as saved: {seen[0]}, kept by DPOTrainer(): {seen[1]}, first loss {loss:.4f}, "
        f"its save opens to what was trained: {seen[2]}"
    )
    return seen


seen = [look("default", True), look("pissa", "pissa"), look("olora", "olora")]
if seen != [[True, True, True], [True, False, False], [True, False, False]]:
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
