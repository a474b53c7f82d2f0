"""Failures of what a load brings in: an optimizer that was not wanted, nothing at all, the state of another step."""

from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support import trainers
from ftsim.scenarios.support.report import Report, claim, refusal
from ftsim.scenarios.support.stage import Stage, count_steps, train
from ftsim.testing.clients import batch


@scenario("C26", "starting from another job's checkpoint: documents promise a new optimizer, code brings the old one")
def the_optimizer_of_a_start(stage: Stage) -> Report:
    """The server obeys the flag that it is sent; who sends which flag is not what the page says."""
    source = stage.client("source")
    train(source, 0, 1, 2)
    source.save_state("step-3").result()
    path = "cross_job://source/step-3"
    code, page = stage.client("code"), stage.client("page")
    code.load_state_with_optimizer(path).result()
    page.load_state(path).result()
    claim(stage.weights(code) == stage.weights(page), "both loads should bring the same weights")
    steps = {"as the code does": count_steps(code, 3), "as the page says": count_steps(page, 3)}
    claim(steps == {"as the code does": 4, "as the page says": 1}, f"the next step is number {steps}")
    claim(stage.weights(code) != stage.weights(page), "old moments should show after one step")
    sent = [exchange.json.get("optimizer") for exchange in stage.exchanges("load_weights")]
    claim(sent == [True, False], f"the flags were {sent}")
    ours = stage.client("ours")
    stage.checkpoints(ours, "ours").resume(init_from_checkpoint="source:step-3", restore_optimizer=False)
    claim(count_steps(ours, 3) == 1 and stage.weights(ours) == stage.weights(page), "ours should be a new optimizer")
    return Report(
        sees=[f"{what}: the next optimizer step is number {step}" for what, step in steps.items()],
        exchanges=stage.exchanges("load_weights")[:2],
        right=[
            "says which it wants: resume(init_from_checkpoint=..., restore_optimizer=False), and looks at the step "
            "that the optimizer counts"
        ],
    )


@scenario("C27", "a checkpoint that is not there loads as nothing: the run goes on from the weights it had")
def a_missing_checkpoint_loads_as_nothing(stage: Stage) -> Report:
    """The load answers without an error and has not loaded anything."""
    stage.client("source").save_state("step-9").result()
    client = stage.client()
    told = refusal(lambda: client.load_state_with_optimizer("cross_job://source/step-99").result())
    untouched = stage.weights(client)
    stage.quirks.set("load.missing", "ignored")
    answer = client.load_state_with_optimizer("cross_job://source/step-99").result()
    claim(stage.weights(client) == untouched, "something was loaded")
    rows = [row["name"].rsplit("/", 1)[1] for row in stage.manager.list_checkpoints("source")]
    claim(rows == ["step-9"], f"the source lists {rows}")
    trained = stage.client("trained")
    before = _likelihood(trained)
    train(trained, 0)
    trained.save_state("step-1").result()
    fresh = stage.client("trained")
    fresh.load_state_with_optimizer("step-1").result()
    claim(_likelihood(fresh) != before, "a load that did something should show in a forward pass")
    return Report(
        sees=[f"the load succeeds ({answer.path}), the weights are those of the base model, bit for bit"],
        exchanges=stage.exchanges("load_weights")[1:2],
        right=[
            f"lists the source first ({', '.join(rows)}), and compares a forward pass before and after",
            f"a server that says so: {str(told)[:140]}",
        ],
    )


@scenario("C28", "an export right after a resume across jobs is that of another step")
def an_export_after_a_resume_is_of_another_step(stage: Stage) -> Report:
    """The loader takes the newest state of the other job instead of the one that was asked for."""
    source = stage.client("source")
    prints = {}
    for step in (1, 2):
        train(source, step)
        source.save_state(f"step-{step}").result()
        prints[step] = _likelihood(source)
    client = stage.client()
    stage.quirks.set("load.resolves", "newest", times=1)
    client.load_state("cross_job://source/step-1").result()
    loaded = _likelihood(client)
    claim(abs(loaded - prints[2]) < 1e-5 < abs(loaded - prints[1]), f"{loaded} of {prints}")
    client.save_weights_for_sampler_ext("export", checkpoint_type="base")
    again = stage.client("job-2")
    again.load_state("cross_job://source/step-1").result()
    claim(abs(_likelihood(again) - prints[1]) < 1e-5, f"{_likelihood(again)} of {prints}")
    return Report(
        sees=[
            "step-1 of the other job loads without an error, and what is exported then says what step 2 would say",
            f"a fixed text has {loaded:.4f} after the load; step 1 gave it {prints[1]:.4f}, step 2 {prints[2]:.4f}",
        ],
        exchanges=stage.exchanges("load_weights")[:1],
        right=["keeps the log-probability of a fixed text with each save, and compares it before the first step"],
    )


@scenario("C30", "a run that was seeded by a load is lost at a restart before its first save")
def a_seeded_run_is_lost_at_a_restart(stage: Stage) -> Report:
    """Loaded weights live in the trainer's memory; after a restart a run has what it saved itself, here nothing."""
    source = stage.client("source")
    train(source, 0, 1)
    source.save_state("step-2").result()
    seeded = stage.client()
    seeded.load_state("cross_job://source/step-2").result()
    claim(stage.weights(seeded) == stage.weights(source), "the load should bring the weights")
    _restart(stage)
    lost = refusal(lambda: train(seeded, 2))
    naive = stage.client()
    train(naive, 2)  # it connects again, finds no checkpoint of its own, and goes on
    stage.job("job-2")
    base = stage.client("job-2")
    train(base, 2)
    claim(stage.weights(naive) == stage.weights(base), "the naive run should have begun at the base model")

    ours = stage.client("job-3")
    checkpoints = stage.checkpoints(ours, "job-3", run="seeded")
    checkpoints.resume(init_from_checkpoint="source:step-2")
    checkpoints.save("start", data_consumed=0)
    _restart(stage, "job-3")
    again = stage.client("job-3")
    resumed = stage.checkpoints(again, "job-3", run="seeded").resume()
    claim(resumed and stage.weights(again) == stage.weights(source), f"resumed {resumed}")
    return Report(
        sees=[
            f"after the restart: {str(lost)[:160]}",
            "a client that connects again and repeats its calls trains the base model, and nothing says so",
        ],
        exchanges=stage.exchanges("load_weights")[:1],
        right=[f"saves once right after the load, and resumes {resumed.source} after the restart"],
    )


def _restart(stage: Stage, job: str = "job-1") -> None:
    """Restart a trainer: its models are gone, its checkpoints stay."""
    trainers.preempt(stage, job)
    stage.http.post(f"/v1/{stage.job_name(job)}:resume", json={})


def _likelihood(client: Any) -> float:
    """The loss of a fixed batch, from a forward pass that changes nothing."""
    return float(client.forward(batch(5), "cross_entropy").result().metrics["loss:sum"])
