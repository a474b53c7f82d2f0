"""The grammar of names by example (WIRE 5.1, 5.2; FAILURES A16, B3, B4, C2)."""

import pytest

from emulator.core.errors import InvalidArgument
from emulator.core.names import (
    CheckpointScope,
    Reference,
    check_checkpoint_name,
    check_dns_label,
    check_model_id,
    is_loadable,
    parse_reference,
    split_resource,
)

RUN = "run-" + "0" * 32


@pytest.mark.parametrize(
    ("path", "reference"),
    [
        ("step-10", Reference("step-10")),
        ("step_10.v2", Reference("step_10.v2")),
        ("cross_job://j1/step-10", Reference("step-10", job="j1")),
        (f"acct/{RUN}/step-10", Reference("step-10", run=("acct", RUN))),
    ],
)
def test_what_load_weights_accepts(path: str, reference: Reference) -> None:
    assert parse_reference(path) == reference


def test_a_scope_names_what_is_in_it_and_load_weights_finds_it_there() -> None:
    job, run = (
        CheckpointScope("accounts/acct/rlorTrainerJobs/j1"),
        CheckpointScope("accounts/acct/trainingSessions/ts-1", RUN),
    )
    assert (job.ids("step-10"), job.path("step-10")) == ([("step-10",)], "step-10")
    assert run.ids("step-10") == [(f"{RUN}-step-10",), (f"{RUN}:step-10",)]
    assert parse_reference(run.path("step-10")) == Reference("step-10", run=("acct", RUN))


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "../x", "/abs", "a/b", "gs://b/x", "tinker://x/y", "j1:step-10", "cross_job://j1", "cross_job:///x",
     "cross_job://j1/../x", "cross_job://J1/x", "x\0y", "x" * 300, "a b", "-x", "acct/run-1/x"],
)  # fmt: skip
def test_what_load_weights_refuses(path: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_reference(path)


@pytest.mark.parametrize(
    "name",
    [
        "accounts/a/models",
        "accounts/a/models/m/x",
        "a/models/m",
        "accounts//models/m",
        "accounts/a/models/",
        "accounts/a/deployments/m",
        "/accounts/a/models/m",
        "",
    ],
)
def test_a_resource_name_is_exact(name: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid resource name"):
        split_resource(name, "models")


@pytest.mark.parametrize(
    ("name", "loadable"), [("step-10", True), ("step_10", False), ("Step", False), ("x" * 64, False)]
)
def test_some_names_can_be_saved_and_not_loaded(name: str, loadable: bool) -> None:
    assert check_checkpoint_name(name) == name
    assert is_loadable(name) is loadable
    if not loadable:
        with pytest.raises(InvalidArgument):
            check_checkpoint_name(name, strict=True)


def test_the_two_rules_for_model_ids_differ_at_the_edges() -> None:
    assert check_model_id("-lead") == "-lead"
    with pytest.raises(InvalidArgument):
        check_model_id("-lead", "dns_label")
    with pytest.raises(InvalidArgument):
        check_model_id("Big")
    assert check_dns_label("a-1", "job id") == "a-1"
