"""A folder is described only when all of it can be read."""

from pathlib import Path

from emulator.backend import BackendError
from ftsim.compute.models.describe import describe
from ftsim.testing.tiny import tiny_model


def check_torn(folder: Path) -> None:
    """A model opens, and does not once half of its tokenizer is gone, which nothing in its weights shows."""
    model = tiny_model(folder / "model")
    tokenizer = model / "tokenizer.json"
    describe(model)
    tokenizer.write_bytes(tokenizer.read_bytes()[: tokenizer.stat().st_size // 2])
    try:
        described: object = describe(model)
    except BackendError as error:
        described = error.message
    assert "tokenizer.json is not whole" in str(described)


def test_a_model_with_half_a_tokenizer_is_refused(tmp_path: Path) -> None:
    check_torn(tmp_path)
