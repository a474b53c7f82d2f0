#!/usr/bin/env bash
# tinker-cookbook 0.6.1, tml-renderers 0.2.1 (seen on 2026-11-28, Python 3.11)
#
# tinker-cookbook 0.6.1 requires tml-renderers>=0.4.1, and no release later than 0.2.1 can be had: `pip install
# tinker-cookbook==0.6.1` finds no set of versions. Installed without its dependencies, with tml-renderers 0.2.1 beside it,
# its renderers work but for those of Kimi K3.1 Pro and of Inkling 2: the tokenizers that they name
# (KimiK3Tokenizer, H200kBaseChatTokenizer) are not in that release.
#
# We had expected that pip installs it, and all of its renderers with it.
#
# Output seen:
#   requires: tml-renderers>=0.4.1
#   pip: No matching distribution found for tml-renderers>=0.4.1
#   tml-renderers 0.2.1 has: O200kBaseChatTokenizer
#   it lacks: KimiK3Tokenizer H200kBaseChatTokenizer
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --no-deps tinker-cookbook==0.6.1 tml-renderers==0.2.1 2>/dev/null
venv/bin/pip install -q --dry-run tinker-cookbook==0.6.1 >pip.log 2>&1 && { echo "pip installs it now"; exit 1; }
venv/bin/python - <<'PROGRAM'
from importlib.metadata import files, requires
from pathlib import Path

source = "".join(file.read_text() for file in files("tml-renderers") if file.suffix in (".py", ".pyi"))
wanted = next(line for line in requires("tinker-cookbook") if line.startswith("tml-renderers"))
print("requires:", wanted)
told = Path("pip.log").read_text()
print("pip: No matching distribution found for tml-renderers>=0.4.1" if "No matching distribution found for tml-renderers" in told else told)
names = ("O200kBaseChatTokenizer", "KimiK3Tokenizer", "H200kBaseChatTokenizer")
print("tml-renderers 0.2.1 has:", *(name for name in names if name in source))
print("it lacks:", *(name for name in names if name not in source))
assert wanted == "tml-renderers>=0.4.1" and "No matching distribution found for tml-renderers" in told
assert "KimiK3Tokenizer" not in source and "O200kBaseChatTokenizer" in source
PROGRAM
