"""Every folder of the zoo through one matrix: each cell is what docs/models.md says, and nothing differs in silence."""

from pathlib import Path

import pytest
import torch

from ftsim.compute.execution import Execution
from tests.zoo import folders, matrix

NAMES = [name if name in matrix.SLICE else pytest.param(name, marks=pytest.mark.slow) for name in folders.ZOO]


def said() -> dict[str, list[str]]:
    """The rows of the page, without folder and architecture."""
    _, title, rest = matrix.PAGE.read_text("utf-8").partition("| folder |")
    lines = (title + rest).partition("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {row[0]: row[2:] for row in cells[1:]}


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_is_equal_or_refused_as_the_page_says(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    assert matrix.row(name, tmp_path) == said()[name]


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("name", NAMES)
def test_layers_that_keep_nothing_give_the_same_bits(name: str, rank: int, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    folder, found = folders.write(name, tmp_path / name), []
    for how in (Execution(), Execution(checkpointing=True)):
        found.append(matrix.trainer_of(folder, rank, 2, how)._model("m").trained)
    assert found[0].keys() == found[1].keys()
    assert [key for key in found[0] if not torch.equal(found[0][key], found[1][key])] == []


def test_the_page_has_every_folder_and_no_other_words() -> None:
    assert list(said()) == list(folders.ZOO)
    assert matrix.page(said()) == matrix.PAGE.read_text("utf-8")
