"""The training loops of tinker-cookbook on tinker's own client: supervised, stopped and resumed; by reinforcement.

Usage: cookbook.py BASE_MODEL FOLDER, under `ftsim run --tinker`. Prints one line of JSON.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import chz
from tinker_cookbook import renderers
from tinker_cookbook.model_info import get_recommended_renderer_name
from tinker_cookbook.rl import train as rl
from tinker_cookbook.rl.problem_env import ProblemEnv, ProblemGroupBuilder
from tinker_cookbook.rl.types import EnvGroupBuilder, RLDataset, RLDatasetBuilder
from tinker_cookbook.supervised import train as supervised
from tinker_cookbook.supervised.data import FromConversationFileBuilder
from tinker_cookbook.supervised.types import ChatDatasetBuilderCommonConfig, SupervisedDataset
from tinker_cookbook.tokenizer_utils import get_tokenizer

from tests.programs import loopback

ROWS = [(f"What is {a} plus {b}?", str(a + b)) for a in range(4) for b in range(4)]


class Sums(ProblemEnv):
    """A question to which every answer that begins with an even digit is right."""

    def __init__(self, question: str, renderer: renderers.Renderer) -> None:
        super().__init__(renderer, format_coef=0.0)
        self._question = question

    def get_question(self) -> str:
        return self._question

    def check_answer(self, sample_str: str) -> bool:
        return sample_str.strip()[:1] in set("02468")

    def check_format(self, sample_str: str) -> bool:
        return True

    def get_reference_answer(self) -> str:
        return "2"


class Questions(RLDataset):
    def __init__(self, groups: Sequence[EnvGroupBuilder], batches: int) -> None:
        self._groups, self._batches = list(groups), batches

    def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]:
        return self._groups

    def __len__(self) -> int:
        return self._batches


@chz.chz
class QuestionsBuilder(RLDatasetBuilder):
    model_name: str
    batches: int

    async def __call__(self) -> tuple[RLDataset, None]:
        tokenizer = get_tokenizer(self.model_name)
        renderer = renderers.get_renderer(get_recommended_renderer_name(self.model_name), tokenizer)
        groups = [
            ProblemGroupBuilder(env_thunk=lambda asked=asked: Sums(asked, renderer), num_envs=8)
            for asked, _ in ROWS[:4]
        ]
        return Questions(groups, self.batches), None


class StoppedError(Exception):
    """The program is interrupted."""


class Interrupted(SupervisedDataset):
    """Rows that end a run when its `last` batch has been taken."""

    def __init__(self, rows: SupervisedDataset, last: int) -> None:
        self._rows, self._left = rows, last

    def get_batch(self, index: int) -> Any:
        if not self._left:
            raise StoppedError
        self._left -= 1
        return self._rows.get_batch(index)

    def set_epoch(self, seed: int = 0) -> None:
        self._rows.set_epoch(seed)

    def __len__(self) -> int:
        return len(self._rows)


@chz.chz
class RowsBuilder(FromConversationFileBuilder):
    """A file of conversations, of which `last` batches can be taken."""

    last: int

    def __call__(self) -> tuple[SupervisedDataset, SupervisedDataset | None]:
        rows, held_out = super().__call__()
        return Interrupted(rows, self.last), held_out


def turns(asked: str, said: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]


def logged(folder: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [line[name] for line in lines if name in line]


def losses(folder: Path) -> list[tuple[float, float]]:
    """The share of the run that is done, and the loss, step by step."""
    steps = map(json.loads, (folder / "metrics.jsonl").read_text("utf-8").splitlines())
    return [(step["progress"], step["train_mean_nll"]) for step in steps if "train_mean_nll" in step]


def trained(base: str, folder: Path, rows: Path, last: int = 100) -> None:
    renderer = get_recommended_renderer_name(base)
    common = ChatDatasetBuilderCommonConfig(
        model_name_for_tokenizer=base, renderer_name=renderer, max_length=256, batch_size=8
    )
    config = supervised.Config(
        log_path=str(folder),
        model_name=base,
        recipe_name="recipe_rows",
        renderer_name=renderer,
        dataset_builder=RowsBuilder(common_config=common, file_path=str(rows), last=last),
        learning_rate=3e-3,
        lr_schedule="constant",
        num_epochs=6,
        submit_ahead=0,
        save_every=4,
        eval_every=0,
        infrequent_eval_every=0,
        lora_rank=8,
    )
    asyncio.run(supervised.main(config))


def reinforced(base: str, folder: Path, steps: int) -> None:
    config = rl.Config(
        log_path=str(folder),
        model_name=base,
        recipe_name="recipe_sums",
        renderer_name=get_recommended_renderer_name(base),
        dataset_builder=QuestionsBuilder(model_name=base, batches=steps),
        learning_rate=3e-3,
        max_tokens=4,
        eval_every=0,
        save_every=4,
        lora_rank=8,
    )
    asyncio.run(rl.main(config))


def main(base: str, folder: Path) -> None:
    loopback.stay()
    rows = folder / "rows.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    rows.write_text("".join(json.dumps({"messages": turns(*row)}) + "\n" for row in ROWS), "utf-8")
    told: dict[str, Any] = {"cookbook": version("tinker-cookbook")}
    trained(base, folder / "whole", rows)
    with contextlib.suppress(StoppedError):
        trained(base, folder / "resumed", rows, last=7)
    trained(base, folder / "resumed", rows)
    told["whole"], told["resumed"] = (losses(folder / name) for name in ("whole", "resumed"))
    reinforced(base, folder / "rl", 10)
    told["rewards"] = logged(folder / "rl", "env/all/reward/total")
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
