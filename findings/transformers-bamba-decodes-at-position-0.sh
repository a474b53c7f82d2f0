#!/bin/sh
# transformers 5.23.0, torch 2.13.0: Bamba's forward gives every decoding step the position 0 where none is given.
#
# Guess beforehand: a step of `model(token, past_key_values=cache)` continues at the cache's length, as in every other
# family with a default for `position_ids`; its logits equal those of one forward over all tokens.
# Behaviour: the cache knows its length (6), and yet the attention layers rotate the new token as the first of a text. No
# warning comes. With `position_ids` given, as `generate` does, all is well; FalconH1 and GraniteMoeHybrid, which share
# the mixer, need none. Loops of one's own (RL rollouts, speculative decoding, evaluation) decode other tokens.
# Output seen:
#   bamba, no positions given:            largest difference of logits 2.0, cache length after 6 tokens: 6
#   bamba, positions given:               largest difference of logits 0.0000
#   granitemoehybrid with rope, not given: largest difference of logits 0.0000
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.13.0
"$place/venv/bin/pip" install -q transformers==5.23.0
cat > "$place/try.py" <<'PY'
import torch
from transformers import AutoConfig, AutoModelForCausalLM

COMMON = dict(
    vocab_size=256, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, initializer_range=0.2, mamba_d_state=8, mamba_d_conv=4, mamba_expand=2, mamba_n_heads=8,
    mamba_d_head=8, mamba_n_groups=1, mamba_chunk_size=8, bos_token_id=None, eos_token_id=None, pad_token_id=None,
)

def far(kind, given, **more):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **COMMON, **more)).eval()
    ids = torch.arange(5, 45)[None] * 7 % 256
    with torch.inference_mode():
        whole = model(ids, use_cache=False).logits
        cache = model(ids[:, :6], use_cache=True).past_key_values
        length, worst = cache.get_seq_length(), 0.0
        for at in range(6, 16):
            where = {"position_ids": torch.tensor([[at]])} if given else {}
            step = model(ids[:, at : at + 1], past_key_values=cache, use_cache=True, **where)
            worst = max(worst, float((step.logits[:, -1] - whole[:, at]).abs().max()))
    return worst, length

wrong, length = far("bamba", False, attn_layer_indices=[1])
right, _ = far("bamba", True, attn_layer_indices=[1])
like, _ = far("granitemoehybrid", False, layer_types=["mamba", "attention"], position_embedding_type="rope",
              num_local_experts=2, num_experts_per_tok=1, shared_intermediate_size=16)
print(f"bamba, no positions given:            largest difference of logits {wrong:.1f}, cache length after 6 tokens: {length}")
print(f"bamba, positions given:               largest difference of logits {right:.4f}")
print(f"granitemoehybrid with rope, not given: largest difference of logits {like:.4f}")
raise SystemExit(0 if wrong > 0.1 and right < 1e-3 and like < 1e-3 and length == 6 else 1)
PY
"$place/venv/bin/python" -W ignore "$place/try.py"
