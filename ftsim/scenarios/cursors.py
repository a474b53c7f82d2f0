"""Failures of the cursor, which says how much of the data a checkpoint has seen."""

import json
import os
import random
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support.report import Report, claim, refusal
from ftsim.scenarios.support.stage import Stage, train
from ftsim.training.checkpoints.cursors import Cursors
from ftsim.training.data.batches import Step, build_plan, steps_done


@scenario("C15", "off by one: every resume trains the last batch a second time")
def the_last_batch_is_trained_twice(stage: Stage) -> Report:
    """The cursor says how many batches were trained, and is read as the number of the last one."""
    before = stage.client()
    for number in range(3):
        train(before, number)
    before.save_state("step-3").result()
    cursor = {"last_batch": 2}
    after = stage.client()
    after.load_state_with_optimizer("step-3").result()
    for number in range(cursor["last_batch"], 5):  # "last trained" read as "next to train"
        train(after, number)
    naive = stage.trained_on(before) + stage.trained_on(after)
    claim(naive == [0, 1, 2, 2, 3, 4], f"the journal says {naive}")

    ours = stage.client("job-2")
    checkpoints = stage.checkpoints(ours, "job-2")
    for number in range(3):
        train(ours, number)
    checkpoints.save("step-3", data_consumed=3)
    again = stage.client("job-2")
    resumed = stage.checkpoints(again, "job-2").resume()
    for number in range(resumed.data_consumed, 5):
        train(again, number)
    right = stage.trained_on(ours) + stage.trained_on(again)
    claim(right == [0, 1, 2, 3, 4], f"the journal says {right}")
    return Report(
        sees=[f"batches trained, by the journal: {naive}"],
        exchanges=stage.exchanges("forward_backward")[2:4],
        right=[f"store the index of the next unseen row, as TrainingCheckpoints does: {right}"],
    )


_USABLE = [True, False, True, False, True, True, True, True]


@scenario("C16", "the cursor counts trained rows, so it drifts with every row that is dropped")
def the_cursor_counts_trained_rows(stage: Stage) -> Report:
    """Rows that a filter drops are data that was consumed."""
    trained = [number for number, usable in enumerate(_USABLE) if usable]
    client = stage.client()
    for number in trained[:3]:
        train(client, number)
    cursor = 3
    resumed = [number for number in range(cursor, len(_USABLE)) if _USABLE[number]]
    claim(trained[2] in resumed, f"naive resume goes on with {resumed}")

    plan = build_plan(_USABLE, epochs=1, batch_size=1, accumulation=1, seed=0)
    ours = stage.client("job-2")
    checkpoints = stage.checkpoints(ours, "job-2")
    for step in plan[:3]:
        train(ours, *_numbers(step))
    checkpoints.save("step-3", data_consumed=plan[2].data_consumed)
    again = stage.client("job-2")
    info = stage.checkpoints(again, "job-2").resume()
    for step in plan[steps_done(plan, info.data_consumed) :]:
        train(again, *_numbers(step))
    seen = stage.trained_on(ours) + stage.trained_on(again)
    claim(sorted(seen) == trained, f"the journal says {seen}")
    return Report(
        sees=[f"three rows are trained ({trained[:3]}), the cursor says {cursor}: row {trained[2]} comes again"],
        exchanges=stage.exchanges("forward_backward")[:3],
        right=[f"count raw rows, dropped ones too (cursor {info.data_consumed}): every usable row once, {seen}"],
    )


def _numbers(step: Step) -> list[int]:
    return [row for batch in step.micro_batches for row in batch]


_ROWS, _SEED = 6, 1


@scenario("C17", "a resume in the middle of an epoch goes on in file order: rows come twice, others never")
def a_resumed_epoch_goes_on_in_file_order(stage: Stage) -> Report:
    """The rest of an epoch is served in another order than it was shuffled into."""
    before, after = stage.client(), stage.client()
    order = list(range(_ROWS))
    random.Random(_SEED).shuffle(order)
    for row in order[:3]:
        train(before, row)
    for row in range(3, _ROWS):  # the new process has not shuffled: file order
        train(after, row)
    naive = stage.trained_on(before) + stage.trained_on(after)
    claim(sorted(naive) != list(range(_ROWS)), f"the journal says {naive}")

    plan = build_plan([True] * _ROWS, epochs=1, batch_size=1, accumulation=1, seed=_SEED)
    ours = stage.client("job-2")
    checkpoints = stage.checkpoints(ours, "job-2")
    for step in plan[:3]:
        train(ours, step.micro_batches[0][0])
    checkpoints.save("step-3", data_consumed=plan[2].data_consumed)
    again = stage.client("job-2")
    info = stage.checkpoints(again, "job-2").resume()
    for step in plan[steps_done(plan, info.data_consumed) :]:
        train(again, step.micro_batches[0][0])
    right = stage.trained_on(ours) + stage.trained_on(again)
    claim(right == [step.micro_batches[0][0] for step in plan], f"the journal says {right}")
    claim(sorted(right) == list(range(_ROWS)), f"the epoch held {right}")
    return Report(
        sees=[f"rows trained in the epoch, by the journal: {naive}"],
        exchanges=stage.exchanges("forward_backward")[2:4],
        right=[f"derive the seeded order again at every start: {right}, each row once"],
    )


_BATCHES, _EPOCHS = 3, 2


@scenario("C18", "the final cursor says batch = n_batches: the resumed run trains zero steps")
def the_final_cursor_leaves_nothing_to_train(stage: Stage) -> Report:
    """The last checkpoint of an epoch says that the next batch is the one after the last."""
    naive = stage.client()
    saved = {"epoch": 0, "batch": _BATCHES, "step": _BATCHES}
    step = saved["step"]
    for _epoch in range(saved["epoch"], _EPOCHS):
        for number in range(saved["batch"], _BATCHES):
            train(naive, number)
        step += _BATCHES
    trained = stage.trained_on(naive)
    claim(not trained and step > _EPOCHS * _BATCHES, f"naive trained {trained}, its step is {step}")

    plan = build_plan([True] * _BATCHES, epochs=_EPOCHS, batch_size=1, accumulation=1, seed=0)
    ours = stage.client("job-2")
    checkpoints = stage.checkpoints(ours, "job-2")
    for planned in plan[:_BATCHES]:
        train(ours, planned.micro_batches[0][0])
    checkpoints.save(f"step-{_BATCHES}", data_consumed=plan[_BATCHES - 1].data_consumed)
    again = stage.client("job-2")
    info = stage.checkpoints(again, "job-2").resume()
    left = plan[steps_done(plan, info.data_consumed) :]
    for planned in left:
        train(again, planned.micro_batches[0][0])
    claim([planned.epoch for planned in left] == [1] * _BATCHES, f"what is left is {left}")
    claim(sorted(stage.trained_on(again)) == list(range(_BATCHES)), f"trained {stage.trained_on(again)}")
    return Report(
        sees=[f"resumed at {saved}: no batch is trained, the step counter says {step} of {len(plan)}"],
        exchanges=[entry for entry in stage.exchanges("forward_backward") if entry.path.count("job-2")][-1:],
        right=[
            f"a cursor of raw rows rolls over by itself: {info.data_consumed} rows, then epoch 1 from its first batch"
        ],
    )


_KEEP = 20


@scenario("C19", "cursor history is trimmed by step: a new run's first cursors are dropped at once")
def cursors_are_trimmed_by_step(stage: Stage) -> Report:
    """A cursor file keeps the entries with the highest steps, not those written last."""
    from ftsim.training.checkpoints.cursors import KEEP, Cursors

    old = {f"step-{step}": 8 * step for step in range(100, 120)}
    naive = _trimmed_by_step({**old, "step-1": 8})
    claim("step-1" not in naive and len(naive) == _KEEP, f"naive trimming keeps {list(naive)}")
    cursors = Cursors(stage.folder / "trimmed")
    for name, value in {**old, "step-1": 8}.items():
        cursors.record({name: value})
    kept = cursors.recorded()
    claim(kept.get("step-1") == 8 and "step-100" not in kept and len(kept) == KEEP, f"ours keeps {list(kept)}")
    checkpoints = stage.checkpoints(stage.client(), run="trimmed")
    checkpoints.save("step-2", data_consumed=16)
    resumed = stage.checkpoints(stage.client(), run="trimmed").resume()
    claim(resumed and resumed.data_consumed == 16, f"resumed {resumed}")
    return Report(
        sees=["20 cursors of steps 100 to 119, then step-1 of a new phase: it is dropped, and resume begins at row 0"],
        right=[f"keep the {KEEP} written last, whatever their step: step-1 stays, step-100 goes"],
    )


def _trimmed_by_step(cursors: dict[str, int]) -> dict[str, int]:
    ranked = sorted(cursors, key=lambda name: int(re.sub(r"\D", "", name)), reverse=True)
    return {name: cursors[name] for name in ranked[:_KEEP]}


_DAMAGED = {
    "truncated": '{"step-1": 8',
    "empty": "",
    "null": '{"step-1": null}',
    "list": "[8]",
    "text": '{"step-1": "4.5"}',
}


@scenario("C20", "a damaged dataloader.json counts as 0 rows, or ends in an error about something else")
def a_damaged_cursor_file(stage: Stage) -> Report:
    """A cursor file that is torn, empty, or holds something else."""
    client = stage.client()
    train(client, 0)
    checkpoints = stage.checkpoints(client)
    checkpoints.save("step-1", data_consumed=8)
    file = checkpoints.cursors.path
    naive: dict[str, Any] = {}
    ours = {}
    for kind, text in _DAMAGED.items():
        file.write_text(text)
        try:
            naive[kind] = _naive_cursor(file, "step-1")
        except (TypeError, AttributeError, ValueError) as error:
            naive[kind] = type(error).__name__
        ours[kind] = str(refusal(stage.checkpoints(stage.client()).resume))
    expected = {"truncated": 0, "empty": 0, "null": "TypeError", "list": "AttributeError", "text": "ValueError"}
    claim(naive == expected, f"naive code reads {naive}")
    claim(all("is damaged" in said for said in ours.values()), f"our client says {ours}")
    return Report(
        sees=[f"{kind} file: {found}" for kind, found in naive.items()],
        exchanges=[],
        right=[f"one typed loader that fails closed: {ours['truncated'][-160:]}"],
    )


def _naive_cursor(file: Path, name: str) -> int:
    try:
        known = json.loads(file.read_text())
    except json.JSONDecodeError:
        return 0
    return int(known.get(name, 0))


_WRITERS = 4


_EACH = 4


@scenario("C21", "two writers of the cursor file: one update is lost, or the other's temporary file is gone")
def two_writers_of_the_cursor_file(stage: Stage) -> Report:
    """Two processes read, change and write the cursor file."""
    file = stage.folder / "dataloader.json"
    file.write_text("{}")
    mine, theirs = json.loads(file.read_text()), json.loads(file.read_text())
    _naive_write(file, {**mine, "step-1": 8})
    _naive_write(file, {**theirs, "dpo-step-1": 16})
    lost = json.loads(file.read_text())
    claim(lost == {"dpo-step-1": 16}, f"naive writers leave {lost}")
    temporary = Path(f"{file}.tmp")
    temporary.write_text("{}")
    os.replace(temporary, file)
    missing = refusal(os.replace, temporary, file)

    cursors = [Cursors(stage.folder / "shared") for _ in range(_WRITERS)]
    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(lambda numbered: _record(*numbered), enumerate(cursors)))
    kept = cursors[0].recorded()
    claim(len(kept) == _WRITERS * _EACH, f"ours keeps {len(kept)} of {_WRITERS * _EACH}")
    return Report(
        sees=[f"both read, both write: {lost} is left", f"both use <path>.tmp: {type(missing).__name__}"],
        exchanges=[],
        right=[f"a lock and a temporary name of its own: {len(kept)} updates of {_WRITERS} writers are all there"],
    )


def _naive_write(file: Path, cursors: dict[str, int]) -> None:
    temporary = Path(f"{file}.tmp")
    temporary.write_text(json.dumps(cursors))
    os.replace(temporary, file)


def _record(number: int, cursors: Cursors) -> None:
    for step in range(_EACH):
        cursors.record({f"run-{number}-step-{step}": step})
