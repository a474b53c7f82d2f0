"""The extras, which are installed only when asked for, and the sentence that names a missing one.

Without any extra there is the emulator with its light backend, and the commands that look at it.
"""

from collections.abc import Mapping
from importlib.util import find_spec

DISTRIBUTION = "ftsim-emulator"
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "train": (
        "torch",
        "numpy",
        "transformers",
        "tokenizers",
        "peft",
        "safetensors",
        "PIL",
        "huggingface_hub",
        "fireworks",
        "fireworks_delta_compression",
        "fireworks_prequant",
        "fsspec",
        "llguidance",
    ),
    "tables": ("pyarrow",),
    "testing": ("pytest", "hypothesis", "respx", "httpx_aiohttp"),
    "plot": ("matplotlib",),
    "stores": ("psycopg", "alembic", "fsspec", "s3fs"),
}
"""The modules that each extra brings, as they are imported; pyproject.toml says which distributions these are."""


class MissingExtraError(ImportError):
    """Something needs an extra that is not installed; the message says how to install it."""


def require(extra: str, what: str) -> None:
    """Raise MissingExtraError unless everything of `extra` can be imported; `what` begins the sentence."""
    for module in EXTRAS[extra]:
        if find_spec(module) is None:
            raise MissingExtraError(sentence(extra, f"{what} need"), name=module)


def explained(error: ModuleNotFoundError) -> str | None:
    """Explain an import that failed for want of an extra; None when the module belongs to none of them."""
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if module in modules:
            return sentence(extra, f"this needs {module},")
    return None


def sentence(extra: str, needs: str) -> str:
    """The sentence that says how to get an extra."""
    light = "" if extra != "train" else ', or use the light backend: ftsim serve --light, Emulator(backend="light")'
    return f"{needs} the extra [{extra}]: pip install '{DISTRIBUTION}[{extra}]'{light}"
