"""Without the cookbook there is nothing to test here; with it, the small tokenizers are what the hub has."""

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

from ftsim.compute.models import hub

if find_spec("tinker_cookbook") is None:
    collect_ignore_glob = ["test_*.py"]
else:  # before the cookbook is imported, and with it the hub library, which reads its environment once
    _place = tempfile.TemporaryDirectory()
    os.environ.update(hub.build(Path(_place.name)))
