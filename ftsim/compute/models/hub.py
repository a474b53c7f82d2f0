"""A Hugging Face hub cache that resolves names such as `Qwen/Qwen3-8B` offline to the small tokenizer and configs.

Only tokenizers and configurations are in it, no weights: a program that asks the hub for weights gets the hub
library's own "not found in cache" error instead of a tiny model under a big name.
"""

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from ftsim.compute.models import catalogue as models, families, hub_names, tokenizer, vision
from ftsim.compute.models.once import write_once

_WITHOUT_IMAGES = re.compile(r"Qwen/Qwen(2\.5-(?!VL)|3-(?!VL)|Q)|nvidia/(?!.*-VL-)")
"""Names of models that see nothing, of families in which others do."""
_KIMI_CLASS = '''"""The class under which clients load a tokenizer of this family."""

from transformers import PreTrainedTokenizerFast


class TikTokenTokenizer(PreTrainedTokenizerFast):
    """Reads tokenizer.json, as its base does."""
'''


def repositories() -> dict[str, models.Facts]:
    """Hub name -> the base model it belongs to."""
    known = map(models.facts, models.names())
    named = {facts.tokenizer_id: facts for facts in known if facts.tokenizer_id != facts.name}
    return named | {name: models.facts(models.PREFIX + model) for name, model in hub_names.MORE.items()}


def build(folder: Path) -> dict[str, str]:
    """Write the cache under `folder` (once) and return the environment that makes programs use it.

    Safe when several processes ask at once.
    """
    return environment(write_once(folder / _contents_digest(), _write_repositories))


def environment(folder: Path) -> dict[str, str]:
    """Variables for a child process: the hub library looks here and nowhere else.

    Code that a repository brings is kept beside it, apart from code of the same names that came from the real hub.
    Recipes open the tokenizers of the folder named last without transformers.
    """
    return {
        "HF_HUB_CACHE": str(folder.resolve()),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_MODULES_CACHE": f"{folder.resolve()}-modules",
        "FTSIM_TOKENIZERS": str(folder.resolve()),
    }


def read_once(variables: Mapping[str, str]) -> dict[tuple[str, str], object]:
    """Map (module, name) of what imported libraries have read of these variables to the value that it is to have."""
    values = {
        ("huggingface_hub.constants", "HF_HUB_CACHE"): variables["HF_HUB_CACHE"],
        ("huggingface_hub.constants", "HF_HUB_OFFLINE"): True,
        ("transformers.utils.hub", "HF_MODULES_CACHE"): variables["HF_MODULES_CACHE"],
        ("transformers.dynamic_module_utils", "HF_MODULES_CACHE"): variables["HF_MODULES_CACHE"],
    }
    return {place: value for place, value in values.items() if place[0] in sys.modules}


def _write_repositories(folder: Path) -> None:
    for name, facts in repositories().items():
        _write_repository(folder / ("models--" + name.replace("/", "--")), name, facts)


def _write_repository(folder: Path, name: str, facts: models.Facts) -> None:
    """One `models--ORG--NAME` folder; the revision is a digest of its files, as commits are on the hub.

    Revisions that clients pin name the same files.
    """
    files = folder / "snapshots" / "files"
    files.mkdir(parents=True)
    _write_files(files, name, facts)
    revision = _revision(files)
    files.rename(files.with_name(revision))
    for pinned in hub_names.PINNED.get(name, ()):
        files.with_name(pinned).symlink_to(revision)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(revision, encoding="ascii")


def _write_files(folder: Path, name: str, facts: models.Facts) -> None:
    family = families.family_of(facts.name)
    tokenizer.write_folder(folder, facts.context_length, family)
    files = {
        "config.json": models.model_config(facts),
        "generation_config.json": models.generation_config(family),
    }
    if family.image and not _WITHOUT_IMAGES.match(name):
        files["preprocessor_config.json"] = vision.processor_config()
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if name.startswith("moonshotai/"):
        (folder / "tokenization_kimi.py").write_text(_KIMI_CLASS, encoding="utf-8")


def _revision(folder: Path) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    for path in sorted(folder.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _contents_digest() -> str:
    digest = hashlib.sha256(repr(sorted(repositories().items())).encode())
    for path in (Path(__file__), Path(hub_names.__file__), *tokenizer.sources()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
