"""Kinds by example: what a folder is, and what happened to it (WIRE 5.3)."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.core.kinds import CheckpointKind, delta_format, detect, read_shard
from tests.doubles import pack, write_adapter, write_base, write_delta, write_safetensors, write_training

K = CheckpointKind


def lora_training(folder: Path) -> Path:
    return write_training(folder, rank=8)


def delta(folder: Path) -> Path:
    return write_delta(folder, [0.0] * 4, [1.0] * 4)


def sharded(folder: Path) -> Path:
    write_base(folder)
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for name in names:
        write_safetensors(folder / name, {f"w{name}": ("F32", [2, 2], pack([0.0] * 4))})
    index = {"weight_map": {f"w{name}": name for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


WHOLE: dict[Callable[[Path], Path], CheckpointKind] = {
    write_training: K.TRAINING,
    lora_training: K.TRAINING_LORA,
    write_base: K.INFERENCE_BASE,
    sharded: K.INFERENCE_BASE,
    write_adapter: K.INFERENCE_LORA,
    delta: K.INFERENCE_ARC_V2,
}
WRITERS = list(WHOLE)
NAMES = [writer.__name__ for writer in WRITERS]


@pytest.mark.parametrize("write", WRITERS, ids=NAMES)
def test_a_whole_folder_is_of_its_kind(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    assert detect(write(tmp_path / "blob")) is WHOLE[write]


@pytest.mark.parametrize("write", WRITERS, ids=NAMES)
def test_a_file_that_is_short_or_gone_makes_it_nothing(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    names = sorted(path.name for path in write(tmp_path / "blob").iterdir())
    for name in names:
        short = write(tmp_path / f"short-{name}")
        (short / name).write_bytes((short / name).read_bytes()[:-1])
        assert detect(short) is None, name
        gone = write(tmp_path / f"gone-{name}")
        (gone / name).unlink()
        assert detect(gone) is None or name == "model.safetensors.index.json", name


@pytest.mark.parametrize("write", WRITERS, ids=NAMES)
def test_bytes_at_random_are_nothing(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    chance = random.Random(0)
    folder = write(tmp_path / "blob")
    for path in folder.iterdir():
        path.write_bytes(chance.randbytes(path.stat().st_size))
    assert detect(folder) is None


@pytest.mark.parametrize("one", WRITERS, ids=NAMES)
@pytest.mark.parametrize("other", WRITERS, ids=NAMES)
def test_two_kinds_in_one_folder_are_nothing(
    tmp_path: Path, one: Callable[[Path], Path], other: Callable[[Path], Path]
) -> None:
    folder = one(tmp_path / "one")
    for path in other(tmp_path / "other").iterdir():
        shutil.copy(path, folder / path.name)
    families = [{K.TRAINING: "t", K.TRAINING_LORA: "t", K.INFERENCE_LORA: "a"}.get(WHOLE[w], "m") for w in (one, other)]
    if families[0] == families[1]:  # same file names: the second has replaced the first
        assert detect(folder) in (WHOLE[other], None)
    else:
        assert detect(folder) is None


def test_a_delta_renamed_is_still_a_delta(tmp_path: Path) -> None:
    folder = delta(tmp_path / "base-of-everything")
    assert detect(folder) is K.INFERENCE_ARC_V2
    assert delta_format(read_shard(folder / "model.safetensors")) == "arc_v2"
