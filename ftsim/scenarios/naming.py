"""Failures of names: rows listed under another name than they were saved as, names used twice or refused."""

import re

from ftsim.scenarios import scenario
from ftsim.scenarios.support.report import SDK_1_2_28, Report, claim, refusal, still_upstream
from ftsim.scenarios.support.stage import BASE, Stage, short, train


@scenario("A8", "the trainer renames what save_state wrote, and the cursor is looked up under another name")
def a_state_is_listed_under_another_name(stage: Stage) -> Report:
    """The trainer lists a state under its own step counter, not under the name it was saved as."""
    stage.quirks.set("dcp.rename", "internal_step")
    answer = stage.client().save_state("step-42").result()
    cursors = {"step-42": 336}
    listed = short(stage.manager.list_checkpoints("job-1")[-1]["name"])
    claim((listed, cursors.get(listed, 0)) == ("step-0", 0), f"the row is {listed}")
    stage.checkpoints(stage.client("job-2"), "job-2").save("step-42", data_consumed=336)
    again = stage.checkpoints(stage.client("job-2"), "job-2")
    resumed = again.resume()
    claim(resumed and (resumed.step, resumed.data_consumed) == (42, 336), f"resumed {resumed}")
    return Report(
        sees=[
            f"save_state('step-42') answers path {answer.path!r}, the list shows {listed}",
            "dataloader.json knows step-42 only: after a resume the data begins at row 0 again",
        ],
        exchanges=[*stage.exchanges("save_weights")[:1], *stage.exchanges("list_checkpoints")[:1]],
        right=[f"TrainingCheckpoints keeps the cursor under the row it finds: {again.cursors.recorded()}"],
    )


@scenario("A9", "a row's first name does not last: what was keyed on it is lost")
def a_rows_first_name_does_not_last(stage: Stage) -> Report:
    """A state is listed under the caller's name at first, and under another one ten seconds later."""
    stage.quirks.set("dcp.rename", "internal_step")
    stage.quirks.set("dcp.rename_after_s", 10.0)
    stage.client().save_state("step-2").result()
    first = short(stage.manager.list_checkpoints("job-1")[-1]["name"])
    stage.clock.advance(10)
    later = short(stage.manager.list_checkpoints("job-1")[-1]["name"])
    claim((first, later) == ("step-2", "step-0"), f"the row was {first}, then {later}")

    client = stage.client("job-2")
    checkpoints = stage.checkpoints(client, "job-2")
    checkpoints.save("step-2", data_consumed=16)
    stage.clock.advance(10)
    killed = refusal(stage.checkpoints(stage.client("job-2"), "job-2").resume)
    train(client, 0)
    checkpoints.save("step-3", data_consumed=24)
    known = checkpoints.cursors.recorded()
    claim(known.get("step-0") == 16, f"the renamed row is known as {known}")
    resumed = stage.checkpoints(stage.client("job-2"), "job-2").resume()
    claim(resumed and resumed.data_consumed == 24, f"resumed {resumed}")
    return Report(
        sees=[f"right after the save the row is {first}, ten seconds later {later}"],
        exchanges=stage.exchanges("list_checkpoints")[:2],
        right=[
            f"TrainingCheckpoints follows the rename at its next save: {known}",
            f"killed before that, it does not start over but refuses: {killed}",
        ],
    )


@scenario("A10", "sampler rows carry a session suffix, so a comparison with the name saved never holds")
def sampler_rows_carry_a_suffix(stage: Stage) -> Report:
    """A sampler row ends with the hex digits of the session that saved it."""
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    checkpoints.save("step-5", resumable=False, promotable=True)
    names = [short(row["name"]) for row in stage.manager.list_checkpoints("job-1")]
    claim(names == [f"step-5-{client.session_id}"] and "step-5" not in names, f"the rows are {names}")
    stage.checkpoints(client).save("step-5", resumable=False, promotable=True)
    saves = stage.exchanges("save_weights_for_sampler")
    claim(len(saves) == 1, f"our client saved {len(saves)} times")
    stage.quirks.set("sampler.suffix", "none")
    plain = stage.checkpoints(stage.client("job-2"), "job-2")
    plain.save("step-5", resumable=False, promotable=True)
    plain.promote_latest("model", BASE)
    bare = stage.rows("job-2")[-1].id
    claim(bare == "step-5", f"without suffixes the row is {bare}")
    return Report(
        sees=[f"saved 'step-5', listed {names[0]!r}: `if 'step-5' in names` is dead code"],
        exchanges=saves[:1],
        right=[
            "TrainingCheckpoints knows its session: the same save, asked of a new one, sends nothing",
            f"where a server drops the suffix, it still finds its row, {bare}",
        ],
    )


_NAMES = ("eval-20260401", "run-deadbeef", "step-12345678")


@scenario("A11", "a suffix stripper eats the end of user names, and a save is skipped as already there")
def a_suffix_stripper_eats_names(stage: Stage) -> Report:
    """Names that end like a session suffix lose their end to code that strips suffixes."""
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    checkpoints.save("eval-20260331", resumable=False, promotable=True)
    stripped = [_stripped(name) for name in _NAMES]
    claim(stripped == ["eval", "run", "step"], f"stripped to {stripped}")
    row = short(stage.manager.list_checkpoints("job-1")[0]["name"])
    claim(_stripped(_stripped(row)) == _stripped("eval-20260401"), f"{row} and eval-20260401 do not collapse")
    for name in _NAMES:
        checkpoints.save(name, resumable=False, promotable=True)
    listed = [found.id for found in stage.rows("job-1")]
    claim(listed[1:] == [f"{name}-{client.session_id}" for name in _NAMES], f"the rows are {listed}")
    return Report(
        sees=[f"{', '.join(_NAMES)} become {', '.join(stripped)}", f"{row} passes for 'eval': the save is skipped"],
        exchanges=stage.exchanges("save_weights_for_sampler")[1:2],
        right=[f"TrainingCheckpoints strips only its own session's suffix, and saves all of them: {listed[1:]}"],
    )


def _stripped(name: str) -> str:
    return re.sub(r"-[0-9a-f]{8}$", "", name)


@scenario("A12", "skip-if-exists takes another session's row for its own, and the old run is promoted")
def another_sessions_row_is_taken(stage: Stage) -> Report:
    """Rows of all sessions of a job are in one list: another session's step-10 is not this one's."""
    old = stage.client()
    train(old, 0)
    old.save_weights_for_sampler_ext("step-10", checkpoint_type="base")
    new = stage.client()
    train(new, 1)
    found = [short(row["name"]) for row in stage.manager.list_checkpoints("job-1")]
    there = [name for name in found if re.sub(r"-[0-9a-f]{8}$", "", name) == "step-10"]
    claim(there == [f"step-10-{old.session_id}"], f"naive code finds {there}")
    stage.manager.promote_checkpoint(
        name=f"{stage.job_name('job-1')}/checkpoints/{there[0]}", output_model_id="naive", base_model=BASE
    )
    checkpoints = stage.checkpoints(new)
    checkpoints.save("step-10", resumable=False, promotable=True)
    checkpoints.promote_latest("right", BASE)
    naive, right = _sources(stage, "naive"), _sources(stage, "right")
    claim(naive.endswith(old.session_id) and right.endswith(new.session_id), f"promoted {naive} and {right}")
    return Report(
        sees=[f"'step-10 exists already' ({there[0]}), nothing is saved, and the old run's {naive} is promoted"],
        exchanges=stage.exchanges("promote")[:1],
        right=[f"TrainingCheckpoints counts its own session's rows only: saves and promotes {right}"],
    )


def _sources(stage: Stage, model: str) -> str:
    made = stage.emulator.world.models.get(f"accounts/{stage.account}/models/{model}")
    assert made is not None
    return short(made.source_checkpoint)


@scenario("A13", "a pooled session lists the checkpoints of every run: another run's is promoted")
def a_session_lists_other_runs(stage: Stage) -> Report:
    """The checkpoints of all runs of a training session are in one list, each named after its run."""
    service = stage.serverless()
    mine, other = (service.create_lora_training_client(BASE, rank=rank) for rank in (4, 8))
    for client in (mine, other):
        train(client, 0)
        client.save_state("step-5").result()
    saved = mine.save_weights_for_sampler_ext("step-5").snapshot_name
    with stage.quirks.set("sessions.name_style", "colon"):
        other.save_weights_for_sampler_ext("step-5")
    rows = stage.manager.list_training_session_checkpoints(service.training_session_name)
    names = [short(row["name"]) for row in rows]
    claim(names[:2] == [f"{mine.run_id}-step-5", f"{other.run_id}-step-5"], f"the rows are {names}")
    claim(names[3].startswith(f"{other.run_id}:step-5-"), f"an older plane writes a colon: {names}")
    exact = [name for name in names if name == "step-5"]
    loose = [name for row, name in zip(rows, names, strict=True) if row["promotable"] and "step-5" in name]
    claim(not exact and loose[-1].startswith(other.run_id), f"naive matching finds {exact} or {loose}")
    own = [row["name"] for row in rows if row["promotable"] and short(row["name"]).startswith(mine.run_id)]
    stage.manager.promote_session_checkpoint(own[-1], "mine", BASE)
    made = stage.emulator.world.models.get(f"accounts/{stage.account}/models/mine")
    claim(made and short(made.source_checkpoint) == f"{mine.run_id}-{saved}", f"promoted {made}")
    return Report(
        sees=[
            f"the session lists {', '.join(names)}",
            "a comparison with 'step-5' finds nothing; the newest promotable one that has it is another run's",
        ],
        exchanges=stage.exchanges("list_checkpoints", "promote"),
        right=["filter by the own run's id first, then by name: the own row is promoted"],
    )


@scenario("B1", "a checkpoint name used twice: silently overwritten, or refused as already existing")
def a_name_is_used_twice(stage: Stage) -> Report:
    """A name is used twice: one service replaces, another refuses."""
    client = stage.client()
    client.save_state("latest").result()
    train(client, 0)
    refused = refusal(lambda: client.save_state("latest").result())
    claim("already exists" in str(refused), f"refused with {refused}")
    with stage.quirks.set("save.on_duplicate", "overwrite"):
        client.save_state("latest").result()
    steps = [row.step for row in stage.rows("job-1")]
    claim(steps == [1], f"the rows are of steps {steps}")

    ours = stage.client("job-2")
    checkpoints = stage.checkpoints(ours, "job-2")
    checkpoints.save("step-0", data_consumed=0)
    checkpoints.save("step-0", data_consumed=0)
    train(ours, 0)
    foreign = refusal(stage.checkpoints(ours, "job-2", run="another").save, "step-0", data_consumed=8)
    claim([row.step for row in stage.rows("job-2")] == [0], "our client overwrote a row")
    return Report(
        sees=[
            f"where names are unique: {str(refused)[:140]}",
            "where they are not: the state of step 0 is gone, the SDK only logs 'overwriting'",
        ],
        exchanges=stage.exchanges("save_weights")[:3],
        right=[
            "TrainingCheckpoints does not send a save that it has made already",
            f"and refuses a name that another run has taken: {str(foreign)[:140]}",
        ],
    )


@scenario("B3", "a name that is accepted by save_state is refused by load_state", upstream=SDK_1_2_28)
def a_name_saves_and_does_not_load(stage: Stage) -> Report:
    """save_state takes a name that load_state then refuses."""
    client = stage.client()
    client.save_state("step_10").result()
    claim([row.id for row in stage.rows("job-1")] == ["step_10"], "step_10 was not saved")
    error = refusal(lambda: client.load_state("step_10").result())
    still_upstream(SDK_1_2_28, isinstance(error, ValueError), f"the SDK itself refuses to load step_10: {error!r}")
    claim(not stage.exchanges("load_weights"), "the refusal should come from the SDK, before any request")
    ours = refusal(stage.checkpoints(client).save, "step_11", data_consumed=0)
    stage.quirks.set("names.enforce_on_save", True)
    told = refusal(lambda: client.save_state("step_12").result())
    return Report(
        sees=["save_state('step_10') succeeds", f"load_state('step_10'): {str(error)[:160]}"],
        exchanges=stage.exchanges("save_weights")[:1],
        right=[
            f"TrainingCheckpoints refuses before saving: {ours}",
            f"a server with names.enforce_on_save refuses at save: {str(told)[:160]}",
        ],
    )


@scenario(
    "B4",
    "a name of 60 characters is 69 long with its suffix, and can never be loaded or routed",
    upstream=SDK_1_2_28,
)
def a_name_is_too_long_with_its_suffix(stage: Stage) -> Report:
    """The session suffix makes a long name too long."""
    client = stage.client()
    name = "x" * 60
    saved = client.save_weights_for_sampler_ext(name, checkpoint_type="base").snapshot_name
    still_upstream(SDK_1_2_28, len(saved) == 69, f"the SDK suffixes without looking at the length: {saved}")
    error = refusal(client.resolve_checkpoint_path, saved)
    claim(isinstance(error, ValueError), f"the SDK takes it as a reference: {error}")
    stage.quirks.set("names.max_len", 63)
    told = refusal(client.save_weights_for_sampler_ext, name, checkpoint_type="base")
    ours = refusal(stage.checkpoints(client).save, name, resumable=False, promotable=True)
    claim("54" in str(ours), f"our client says {ours}")
    return Report(
        sees=[f"saved as {saved} ({len(saved)} characters)", f"as a reference: {str(error)[:140]}"],
        exchanges=stage.exchanges("save_weights_for_sampler")[:2],
        right=[f"TrainingCheckpoints refuses before saving: {ours}", f"names.max_len=63: {str(told)[:140]}"],
    )


@scenario("A18", "a name that is looked for as a part of another one: another checkpoint is promoted")
def a_name_is_matched_as_a_part_of_another(stage: Stage) -> Report:
    """Session rows hold the run's id, the name and a suffix; code looks whether the name is somewhere in them."""
    service = stage.serverless()
    mine, sibling = (service.create_lora_training_client(BASE, rank=rank) for rank in (4, 8))
    for client in (mine, sibling):
        train(client, 0)
    saved = mine.save_weights_for_sampler_ext("final").snapshot_name
    mine.save_weights_for_sampler_ext("not-final-2")
    sibling.save_weights_for_sampler_ext("final")
    rows = stage.manager.list_training_session_checkpoints(service.training_session_name)
    matched = [short(row["name"]) for row in rows if "-final-" in short(row["name"])]
    claim(len(matched) == 3, f"the part is in {matched}")
    stage.manager.promote_session_checkpoint(rows[-1]["name"], "naive", BASE)
    wrong = _sources(stage, "naive")
    claim(wrong.startswith(sibling.run_id), f"naively promoted {wrong}")
    own = [row["name"] for row in rows if _logical(short(row["name"]), mine.run_id) == "final"]
    claim([short(name) for name in own] == [f"{mine.run_id}-{saved}"], f"equality finds {own}")
    stage.manager.promote_session_checkpoint(own[0], "right", BASE)
    return Report(
        sees=[f"'-final-' is in {', '.join(matched)}", f"the newest of them is the sibling run's, {wrong}"],
        exchanges=stage.exchanges("list_checkpoints", "promote"),
        right=[f"strips its own run's id and the suffix, and compares what is left: {_sources(stage, 'right')}"],
    )


def _logical(row: str, run: str) -> str:
    """The name that a run saved under, without its id and the suffix of eight digits; "" for another run's row."""
    return row.removeprefix(f"{run}-")[:-9] if row.startswith(f"{run}-") else ""
