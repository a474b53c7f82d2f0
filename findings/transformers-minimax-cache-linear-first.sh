#!/bin/sh
# transformers 5.23.0 (5.24.0 alike), torch 2.13.0: MiniMax decodes wrongly with its cache when the first layer is linear attention.
#
# Guess beforehand: logits of a decoding step with the cache equal those of one forward over all tokens, whatever the
# order of `layer_types`, as they do with the default order, which begins with full attention.
# Behaviour: the cache tells its length by its layer 0. A linear layer has none, so it says 0: every decoding step is
# given position 0, and no warning comes. Without the cache all is well.
# Output seen:
#   full attention first:   largest difference of logits 0.0000
#   linear attention first: largest difference of logits 1.0, cache length after 6 tokens: 0
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.13.0
"$place/venv/bin/pip" install -q transformers==5.23.0
cat > "$place/try.py" <<'PY'
import torch
from transformers import AutoConfig, AutoModelForCausalLM

def far(order):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "minimax", vocab_size=256, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, num_local_experts=2, num_experts_per_tok=1, initializer_range=0.2,
        block_size=8, bos_token_id=None, eos_token_id=None, layer_types=order,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.arange(5, 45)[None] * 7 % 256
    with torch.inference_mode():
        whole = model(ids, use_cache=False).logits
        cache = model(ids[:, :6], use_cache=True).past_key_values
        length, worst = cache.get_seq_length(), 0.0
        for at in range(6, 10):
            step = model(ids[:, at : at + 1], past_key_values=cache, use_cache=True)
            worst = max(worst, float((step.logits[:, -1] - whole[:, at]).abs().max()))
    return worst, length

right, _ = far(["full_attention", "linear_attention"])
wrong, length = far(["linear_attention", "full_attention"])
print(f"full attention first:   largest difference of logits {right:.4f}")
print(f"linear attention first: largest difference of logits {wrong:.1f}, cache length after 6 tokens: {length}")
raise SystemExit(0 if right < 1e-3 and wrong > 0.1 and length == 0 else 1)
PY
"$place/venv/bin/python" -W ignore "$place/try.py"
