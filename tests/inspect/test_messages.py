"""Messages, whole logs and tracebacks lead to the entries of the failure catalogue; other errors lead to none."""

import random
import re
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.quirks.failures import entries
from ftsim.inspect.messages import WHO, diagnose, symptoms
from ftsim.scenarios import scenarios

SYMPTOMS = Path(__file__).parents[2] / "fixtures" / "messages" / "symptoms.tsv"
CASES = [
    (tuple(ids.split()), message)
    for ids, message in (
        line.split("\t") for line in SYMPTOMS.read_text("utf-8").splitlines() if not line.startswith("#")
    )
]
IDS = [message[:50] for _, message in CASES]

LOG = """2026-11-20 10:02:11,518 INFO  step 417 loss 1.03
2026-11-20 10:02:12,001 ERROR run failed
Traceback (most recent call last):
  File "/home/user/recipes/train.py", line 88, in main
    result = client.call(name="step-418", timeout=30)
  File "/home/user/recipes/helpers.py", line 12, in call
    raise RuntimeError(message)
RuntimeError: {message}

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/home/user/recipes/train.py", line 91, in <module>
    main()
SystemExit: 1
"""


def found(text: str) -> list[str]:
    return [match.entry.id for match in diagnose(text)]


def changed(message: str, seed: int) -> str:
    """The same message with other ids, numbers and names in quotes."""
    draw = random.Random(seed)
    message = re.sub(r"'qwen-run-7'", lambda _: f"'{draw.choice(['a', 'sft-2026-11', 'job_99'])}'", message)
    return re.sub(r"\b17\b", lambda _: str(draw.randrange(2, 100_000)), message)


@pytest.mark.parametrize(("wanted", "message"), CASES, ids=IDS)
def test_a_message_names_its_entries_before_any_other(wanted: tuple[str, ...], message: str) -> None:
    assert set(found(message)[: len(wanted)]) == set(wanted)


@pytest.mark.parametrize(("wanted", "message"), CASES, ids=IDS)
def test_other_ids_and_a_long_traceback_change_nothing(wanted: tuple[str, ...], message: str) -> None:
    for seed in range(3):
        text = changed(message, seed)
        assert set(found(LOG.replace("{message}", text))[: len(wanted)]) == set(wanted), text


def test_an_entry_that_is_named_alone_comes_first() -> None:
    alone = [(wanted[0], message) for wanted, message in CASES if len(wanted) == 1]
    assert len(alone) > 50
    assert sum(found(message)[0] == wanted for wanted, message in alone) >= 0.9 * len(alone)


def test_an_unknown_field_is_told_from_the_one_that_has_an_entry() -> None:
    assert found("400: path: Extra inputs are not permitted")[0] == "E2"
    assert found("400: reset_prompt_cache: Extra inputs are not permitted")[:2] == ["E1", "E27"]


@pytest.mark.parametrize(
    ("message", "first"),
    [
        (
            "Cause: checkpoint 'step-2-e7289219' is INFERENCE_ARC_V2, a delta over the previous snapshot, which is not "
            "promotable (checkpointType is what the server found in the blob, whatever the save was called)",
            "D1",
        ),
        ("checkpoint 'a' is TRAINING_LORA, resumable training state (DCP), which is not promotable", "D2"),
        ("ERROR: Failed to promote checkpoint 'x' (HTTP 409)", "D6"),
        ("Request failed: checkpoint 's' has LoRA rank 2, the model has 4", "C10"),
        ("Request failed: merged_base needs a trained or loaded adapter; this one is untouched", "B10"),
        ("previous_snapshot_identity is 'one', the replica holds 'two': send a full snapshot", "E10"),
        ("ERROR: Trainer job j stuck in JOB_STATE_DELETED", "F4"),
        ("RetryableException: Promise expired/broken for request req-1", "F14"),
    ],
)
def test_what_the_emulator_says_leads_to_its_entry(message: str, first: str) -> None:
    assert found(message)[0] == first


def unrelated() -> list[Callable[[], object]]:
    """Fifty things that go wrong in any program."""
    import asyncio
    import configparser
    import contextlib
    import csv
    import decimal
    import importlib
    import json
    import socket
    import sqlite3
    import struct
    import subprocess
    import zipfile

    import torch

    def unknown_table() -> None:
        with contextlib.closing(sqlite3.connect(":memory:")) as database:
            database.execute("select * from runs")

    return [
        lambda: 1 / 0, lambda: [][1], lambda: dict(a=1)["b"], lambda: int("x"), lambda: float("a"), lambda: None.step,  # type: ignore[attr-defined]
        lambda: "a" + 1, lambda: open("/nowhere/data.jsonl"), lambda: json.loads("{"), lambda: json.loads("[1,]"),  # type: ignore[operator]
        lambda: importlib.import_module("no_such_module"), lambda: importlib.import_module("torch.no_such"),
        lambda: torch.zeros(2, 3) @ torch.zeros(2, 3), lambda: torch.zeros(2) + torch.zeros(3),
        lambda: torch.zeros(3).backward(), lambda: torch.load("/nowhere/model.pt"),  # type: ignore[no-untyped-call]
        lambda: torch.nn.Linear(2, 3)(torch.zeros(1, 5)), lambda: torch.tensor([1, 2]).reshape(3, 3),
        lambda: torch.tensor(["a"]), lambda: torch.nn.Embedding(3, 2)(torch.tensor([7])),
        lambda: b"\xff".decode("utf-8"), lambda: "\xe9".encode("ascii"), lambda: struct.unpack("<Q", b"1"),
        unknown_table, lambda: sqlite3.connect("/nowhere/a.db"),
        lambda: zipfile.ZipFile("/etc/hostname"), lambda: socket.create_connection(("127.0.0.1", 9), 0.2),
        lambda: subprocess.run(["no-such-program"]), lambda: subprocess.run(["false"], check=True),
        lambda: asyncio.run(asyncio.wait_for(asyncio.sleep(1), 0.01)), lambda: next(iter([])),
        lambda: dict([1]), lambda: sorted([1, "a"]), lambda: format("a", "d"), lambda: eval("a + b", {}),  # type: ignore[arg-type, type-var]
        lambda: decimal.Decimal("x"), lambda: configparser.ConfigParser().get("a", "b"), lambda: max([]),
        lambda: __import__("pathlib").Path("/nowhere/a").read_text(), lambda: __import__("os").listdir("/nowhere"),
        lambda: __import__("re").compile("("), lambda: __import__("datetime").datetime.fromisoformat("x"),
        lambda: __import__("base64").b64decode("a"), lambda: __import__("gzip").decompress(b"x"),
        lambda: __import__("uuid").UUID("x"), lambda: __import__("ipaddress").ip_address("x"),
        lambda: __import__("argparse").ArgumentParser(exit_on_error=False).parse_args(["--x"]),
        lambda: list(csv.reader(["a"], delimiter="ab")), lambda: __import__("pickle").loads(b"x"),
        lambda: __import__("ast").parse("a b"), lambda: __import__("shutil").copy("/nowhere/a", "/nowhere/b"),
    ]  # fmt: skip


def test_none_of_fifty_other_tracebacks_is_taken_for_an_entry() -> None:
    failed = 0
    for cause in unrelated():
        try:
            cause()
        except BaseException as error:
            failed += 1
            text = "".join(traceback.format_exception(error))
            assert found(text) == [], text
    assert failed >= 50


def test_every_entry_of_the_catalogue_can_be_read() -> None:
    assert len(entries()) == 167
    assert all(entry.title and (entry.sees or entry.switch) for entry in entries().values())
    assert {scenario.id for scenario in scenarios()} <= entries().keys()


def test_the_patterns_name_entries_that_there_are() -> None:
    assert {identifier for symptom in symptoms() for identifier in symptom.entries} <= entries().keys()
    assert {symptom.who for symptom in symptoms()} <= WHO.keys()
