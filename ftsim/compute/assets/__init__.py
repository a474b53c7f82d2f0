"""Files that ship inside the package: the tokenizer, its chat template and the pre-trained weights.

`python -m ftsim.compute.assets.build` writes them again from the seeded recipe in `ftsim.compute.models`: corpus,
tokenizer, pretrain.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
MARKERS = FOLDER / "markers"
"""Rows of families whose markers are not those that the weights were pre-trained with; assets/learn.py learns them."""
