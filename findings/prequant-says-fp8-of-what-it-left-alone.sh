#!/usr/bin/env bash
# fireworks-prequant 0.2.0, transformers 5.23.0, torch 2.13.0 (seen on 2026-11-28, Python 3.11, CPU)
#
# `quantize_checkpoint_dir(fmt="mxfp8_bw128")` looks for expert weights by the names that Qwen, DeepSeek and GLM use
# (mlp.experts.N.gate_proj). A mixture of experts with other names (Mixtral's block_sparse_moe.experts.N.w1) and every dense
# model go through untouched: nothing is an error, no file is smaller. But config.json says `quantization_config: fp8` of them
# all the same, so a loader that trusts it takes bf16 weights for fp8 ones. The count that the call returns is the only sign.
# Folders beside the files stay behind, so named chat templates (additional_chat_templates/) are lost on the way.
#
# We had expected a refusal, or a config that says what was done. The cure is to compare the first count with 0, and to
# copy the folders.
#
# Output seen:
#   qwen3_moe: 24 quantised, config says fp8, 0.53 of the bytes, named template kept: False
#   mixtral: 0 quantised, config says fp8, 1.00 of the bytes, named template kept: False
#   qwen3: 0 quantised, config says fp8, 1.00 of the bytes, named template kept: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q fireworks-prequant==0.2.0 transformers==5.23.0
cat > look.py <<'PY'
import json
import tempfile
from pathlib import Path

import torch
import transformers
from fireworks_prequant import quantize_checkpoint_dir
from transformers import AutoConfig, AutoModelForCausalLM

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
experts = {
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 256},
    "mixtral": {"num_local_experts": 4},
    "qwen3": {},
}
found = {}
for kind, options in experts.items():
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=64, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, bos_token_id=None, eos_token_id=None, **options,
    )
    before, after = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(before)
    named = before / "additional_chat_templates" / "plain.jinja"
    named.parent.mkdir()
    named.write_text("{{ messages[-1].content }}")
    count, _ = quantize_checkpoint_dir(before, after, fmt="mxfp8_bw128", device="cpu")
    says = json.loads((after / "config.json").read_text())["quantization_config"]["quant_method"]
    size = [(place / "model.safetensors").stat().st_size for place in (before, after)]
    kept = (after / named.relative_to(before)).exists()
    found[kind] = (count, says, round(size[1] / size[0], 1), kept)
    print(f"{kind}: {count} quantised, config says {says}, {size[1] / size[0]:.2f} of the bytes, named template kept: {kept}")
if [found[kind][:2] for kind in experts] != [(24, "fp8"), (0, "fp8"), (0, "fp8")] or any(kept for *_, kept in found.values()):
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
