"""The folder that `ftsim models pull` fetches is opened at once by transformers and peft, as docs/cli.md shows it."""

import re
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import load_file

from emulator.server import Emulator
from ftsim.compute.backend import TorchBackend
from ftsim.compute.quiet import quiet
from tests.conftest import Ftsim
from tests.state.test_flips import Victims

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")


@pytest.mark.slow
def test_what_was_pulled_opens_as_the_page_shows(ftsim: Ftsim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        Emulator(TorchBackend(tmp_path / "bases")) as emulator,
        httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}, timeout=60) as http,
    ):
        Victims(emulator, http)
        on = ("--url", emulator.url, "--api-key", emulator.api_key)
        for name, folder, more in (("m1", "model", ()), ("a1", "adapter", ("--with-base",))):
            done = ftsim("models", "pull", name, str(tmp_path / folder), *more, *on)
            assert done.exit_code == 0, done.output
    (shown,) = re.findall(r"```python\n(from peft import .*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    opened: dict[str, object] = {}
    with quiet():  # peft 0.21 asks for what transformers 5.23 calls deprecated
        exec(compile(shown, "docs/cli.md", "exec"), opened)
    model, merged = opened["model"], opened["merged"]
    assert isinstance(model, torch.nn.Module)
    assert isinstance(merged, torch.nn.Module)
    saved = load_file(tmp_path / "model" / "model.safetensors")
    held = model.state_dict()
    assert all(torch.equal(held[name], value) for name, value in saved.items())
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():  # the adapter was saved before it was trained: merging it changes nothing
        difference = model(ids).logits - merged(ids).logits
    assert float(difference.abs().max()) < 1e-5
    assert opened["prompt"]
