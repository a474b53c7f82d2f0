"""Writes docs/coverage.md, or the file that is given."""

import sys
from pathlib import Path

from ftsim.tools.coverage.page import generated

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[3] / "docs" / "coverage.md"
kept = target.read_text("utf-8") if target.exists() else ""
target.write_text(generated(kept), encoding="utf-8")
print(f"wrote {target}")
