#!/usr/bin/env bash
# trl 1.16.0, peft 0.21.2, transformers 5.24.0, torch 2.13.0 (seen on 2026-11-30, Python 3.11, CPU)
#
# SFT with LoRA, then DPO on from its adapter: `DPOTrainer(model=PeftModel.from_pretrained(base, folder, is_trainable=True))`
# without a `ref_model`. The reference is a second adapter, "ref", into which the values of the first are copied by their
# names. The copy looks for ".default." with both dots. Names of a LoRA on the embeddings (`lora_embedding_A.default`) and of trained
# tokens (`trainable_token_indices`: `trainable_tokens_delta.default`) end without the second one, and are left out: the
# reference has untrained embeddings. Nothing is said. Rewards are not 0 before the first step, and the policy is
# pulled to a model that nobody trained, worst where new tokens were taught. The trainers of KTO, GRPO and RLOO copy by the
# same lines. Adapters of attention and MLP, DoRA and modules_to_save are copied whole.
#
# We had expected the model that the run begins with to be its reference: a reward of 0 and a loss of log 2 = 0.6931 at first.
# The cure is to merge the adapter first, and to train a new one on the result.
#
# Output seen (learning rate 0, first step):
#   attention          reference is the start: True, reward 0.0000, loss 0.6931
#   and embeddings     reference is the start: False, reward -0.0935, loss 0.7936
#   and trained tokens reference is the start: False, reward 0.3440, loss 0.5358
#   and modules_to_save reference is the start: True, reward 0.0000, loss 0.6931
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


def first_step(name, **settings):
    torch.manual_seed(1)
    config = LoraConfig(**{"r": 2, "target_modules": ["q_proj", "v_proj"], **settings})
    made = get_peft_model(base(), config)
    for value in made.parameters():
        if value.requires_grad:
            value.data += 0.2 * torch.randn_like(value)
    made.save_pretrained(name)

    policy = PeftModel.from_pretrained(base(), name, is_trainable=True)
    start = logits(policy)
    arguments = DPOConfig(
        "out", max_steps=1, per_device_train_batch_size=4, learning_rate=0.0, logging_steps=1, save_strategy="no",
        report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True,
    )
    trainer = DPOTrainer(model=policy, args=arguments, train_dataset=pairs, processing_class=tokenizer)
    trainer.callback_handler.callbacks = [one for one in trainer.callback_handler.callbacks if "Print" not in str(one)]
    trainer.train()
    policy.set_adapter("ref")
    same = torch.allclose(logits(policy), start, atol=1e-4)
    log = trainer.state.log_history[0]
    reward, loss = log["rewards/chosen"], log["loss"]
    print(f"{name:18} reference is the start: {same}, reward {reward:.4f}, loss {loss:.4f}")
    return same, abs(reward) < 1e-5


seen = [
    first_step("attention"),
    first_step("and embeddings", target_modules=["q_proj", "v_proj", "embed_tokens"]),
    first_step("and trained tokens", trainable_token_indices=[5, 6]),
    first_step("and modules_to_save", modules_to_save=["lm_head"]),
]
if seen != [(True, True), (False, False), (False, False), (True, True)]:
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
