"""The folders that `ftsim models pull` fetches are opened at once by transformers and peft, as the pages show it."""

import re
import shlex
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

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGE = (ROOT / "docs" / "models.md").read_text("utf-8")
PULLED = re.findall(r"^ftsim models pull (my-\w+) \./(\w+)(.*)$", README, re.MULTILINE)


@pytest.mark.slow
def test_what_was_pulled_opens_as_the_page_shows(ftsim: Ftsim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        Emulator(TorchBackend(tmp_path / "bases")) as emulator,
        httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}, timeout=60) as http,
    ):
        Victims(emulator, http)
        on = ("--url", emulator.url, "--api-key", emulator.api_key)
        for name, folder, more in PULLED:
            promoted = {"my-model": "m1", "my-adapter": "a1"}[name]
            done = ftsim("models", "pull", promoted, str(tmp_path / folder), *more.split(), *on)
            assert done.exit_code == 0, done.output
    (opens,) = re.findall(r"```python\n(from peft import .*?)```", README, re.DOTALL)
    (asks,) = re.findall(r"```python\n(from transformers import AutoTok.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    opened: dict[str, object] = {}
    with quiet():  # peft 0.21 asks for what transformers 5.23 calls deprecated
        exec(compile(opens + asks, "README.md", "exec"), opened)
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


@pytest.mark.parametrize("page", [README, PAGE], ids=["README", "models"])
def test_vllm_is_given_folders_that_were_pulled(page: str) -> None:
    """Its line is looked at and not run: the folder, and an adapter as NAME=FOLDER beside its base."""
    lines = re.findall(r"^vllm serve .*$", page, re.MULTILINE)
    pulled = {f"./{folder}" for _, folder, _ in PULLED}
    for line in lines:
        _, _, model, *more = shlex.split(line)
        assert model.removesuffix("/base") in pulled
        if more:
            enable, modules, given = more
            assert (enable, modules, model.endswith("/base")) == ("--enable-lora", "--lora-modules", True)
            assert given.partition("=")[2] in pulled
    assert lines
