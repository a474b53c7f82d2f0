"""Failures of the serverless pool: names, places, sessions, clients that were set up for trainer jobs."""

import asyncio
from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support import deployments, trainers
from ftsim.scenarios.support.report import SDK_1_2_28, Report, claim, refusal, still_upstream
from ftsim.scenarios.support.stage import BASE, Stage, short, train

_LONGEST = 63


@scenario("G1", "names of at most 17 characters: what surrounds them in a row's id has the other 46")
def a_name_is_too_long_for_the_pool(stage: Stage) -> Report:
    """A row of the pool is called run-<32 hex>-<name>-<8 hex>, and that must fit a resource id of 63 characters."""
    client = stage.serverless().create_lora_training_client(BASE, rank=4)
    train(client, 0)
    told = refusal(client.save_weights_for_sampler_ext, "after-epoch-00001x")
    state = refusal(lambda: client.save_state("after-epoch-00001x").result())
    claim("at most 17" in str(told) and "at most 17" in str(state), f"{told}; {state}")
    stage.quirks.set("sessions.names_max_len", 0)
    client.save_weights_for_sampler_ext("after-epoch-00001x")
    rows = stage.manager.list_training_session_checkpoints(_session(stage, client))
    lost = short(rows[-1]["name"])
    claim(len(lost) == _LONGEST + 1, f"{lost} has {len(lost)} characters")
    names = {f"after-epoch-{epoch:05d}-of-the-run": f"e{epoch:05d}" for epoch in range(3)}
    with stage.quirks.set("sessions.names_max_len", 17):
        kept = client.save_weights_for_sampler_ext(names["after-epoch-00002-of-the-run"]).snapshot_name
    return Report(
        sees=[f"18 characters: {str(told)[:220]}", f"where they are taken: {lost}, {len(lost)} characters"],
        exchanges=stage.exchanges("save_weights_for_sampler")[:1],
        right=[f"short names, and a map from the long ones to them: {kept}"],
    )


def _session(stage: Stage, client: Any) -> str:
    run = stage.emulator.world.runs.get(f"accounts/{stage.account}/trainingRuns/{client.run_id}")
    assert run is not None
    return str(run.session)


_PLACES = 2


@scenario("G4", "the pool is full, with sessions that nobody uses")
def the_pool_is_full(stage: Stage) -> Report:
    """Every run has a place until its session ends; a client that is only dropped keeps it."""
    stage.quirks.set("sessions.quota", _PLACES)
    services = [stage.serverless() for _ in range(_PLACES)]
    for service in services:
        service.create_lora_training_client(BASE, rank=4)
    full = refusal(stage.serverless().create_lora_training_client, BASE, rank=4)
    claim(f"may have {_PLACES}" in str(full), f"refused with {full}")
    services[0].delete_training_session()
    again = stage.serverless().create_lora_training_client(BASE, rank=4)
    train(again, 0)
    stage.job("dedicated", rank=4)
    train(stage.client("dedicated", rank=4), 0)
    return Report(
        sees=[f"create_lora_training_client: {trainers.first_line(full)}"],
        exchanges=stage.exchanges("create_model")[_PLACES : _PLACES + 1],
        right=["ends the session of every run that is done, and the next one has its place", "or takes a trainer job"],
    )


@scenario("G5", "an ended run cannot be resumed: 409, run state is EXPIRED")
def an_ended_run_is_not_resumed(stage: Stage) -> Report:
    """A laptop sleeps, a container stands still: nobody gave a sign of life, and the run is over."""
    stage.quirks.set("sessions.ended_run", "409")
    client = stage.serverless().create_lora_training_client(BASE, rank=4)
    train(client, 0)
    saved = client.save_state("before-pause").result().path
    stage.clock.advance(1801)
    with trainers.patient(stage):
        error = refusal(train, client, 1)
    last = stage.exchanges("forward_backward")[-1]
    claim(last.status == 409 and "run state is EXPIRED" in str(last.answer), f"{last.status}: {error}")
    again = stage.serverless().create_training_client_from_state_with_optimizer(saved)
    claim(stage.live(again).step == 1, f"the new run is at step {stage.live(again).step}")
    train(again, 1)
    return Report(
        sees=[f"after half an hour without a sign of life: {last.status} {last.answer['error']['message'][:160]}"],
        exchanges=[last],
        right=[f"saves before every long pause, and begins a new run from {saved.rsplit('/', 1)[1]}"],
    )


@scenario("G6", "which 409 may be retried: one run dies of a passing shortage", upstream=SDK_1_2_28)
def a_conflict_that_passes(stage: Stage) -> Report:
    """A shortage and a real conflict have one status; who asks again for which depends on words and on an opt-in."""
    plain, opted = stage.serverless(), stage.serverless()
    opted._enable_serverless_supervised_409_retry()
    seen = {}
    for name, service in (("every other client", plain), ("SFT and DPO recipes", opted)):
        client = service.create_lora_training_client(BASE, rank=4)
        for answer in ("capacity_exhausted", "409"):
            stage.quirks.set("futures.answer", answer, endpoint="optim_step", times=1)
            client.forward_backward(_batch(), "cross_entropy").result()
            seen[name, answer] = _steps_on(stage, client)
    shortage = [seen["every other client", "capacity_exhausted"], seen["SFT and DPO recipes", "capacity_exhausted"]]
    still_upstream(SDK_1_2_28, shortage == [False, True], f"a shortage is borne by {seen}")
    claim(not seen["every other client", "409"] and not seen["SFT and DPO recipes", "409"], f"a conflict: {seen}")
    answers = [one for one in stage.exchanges("retrieve_future") if one.status == 409]
    kinds = [one.answer["error"]["code"] for one in answers]
    again = _with_a_budget(answers)
    return Report(
        sees=[
            "a shortage (capacity_exhausted) ends the step of a client that did not opt in; one that did bears it",
            "the decision goes by words anywhere in the text",
        ],
        exchanges=answers[:1],
        right=[f"decides by the error's code ({', '.join(dict.fromkeys(kinds))}), with a budget: {again}"],
    )


def _batch() -> list[Any]:
    from ftsim.testing.clients import batch

    return batch()


def _steps_on(stage: Stage, client: Any) -> bool:
    """True when an optimizer step comes to its result."""
    try:
        with trainers.patient(stage):
            client.optim_step(trainers.adam()).result(timeout=20)
    except Exception:
        return False
    return True


def _with_a_budget(answers: list[Any]) -> str:
    passing = [one.answer["error"]["code"] in ("capacity_exhausted", "recovery_required") for one in answers]
    return f"{passing.count(True)} of {len(passing)} are asked for again, three times at most"


@scenario("G7", "the sampler dies with the session: evaluation after training fails though the path is right")
def the_sampler_dies_with_the_session(stage: Stage) -> Report:
    """A snapshot of a run can be sampled while its session lives."""
    service = stage.serverless()
    client = service.create_lora_training_client(BASE, rank=4)
    train(client, 0)
    saved = client.save_weights_for_sampler_ext("final")
    rows = stage.manager.list_training_session_checkpoints(service.training_session_name)
    sampler = service.create_sampling_client(model_path=saved.path)
    before = _sampled(sampler)
    stage.manager.promote_session_checkpoint(rows[-1]["name"], "kept", BASE)
    model = f"accounts/{stage.account}/models/kept"
    service.delete_training_session()
    error = refusal(_sampled, sampler)
    last = stage.exchanges("completions")[-1]
    claim(last.status in (400, 404), f"{last.status}: {error}")
    deployments.deploy(stage, None, base_model=model)
    served = deployments.complete(stage, f"accounts/{stage.account}/deployments/{deployments.DEPLOYMENT}")
    claim(served.status_code == 200 and before, served.text)
    return Report(
        sees=[f"after the session was closed: {last.status} {str(last.answer)[:200]}"],
        exchanges=[last],
        right=["evaluates before it closes; afterwards promotes before the end, deploys the model and asks that"],
    )


def _sampled(sampler: Any) -> list[int]:
    from ftsim.training.sdk import types

    settings = types.SamplingParams(max_tokens=3, temperature=0.0)
    (answer,) = sampler.sample(types.ModelInput.from_ints([1, 2, 3]), 1, settings).result().sequences
    return list(answer.tokens)


@scenario("G8", "one workload gets 429 and 503 by turns, and its concurrency falls to one request")
def refusals_of_two_kinds(stage: Stage) -> Report:
    """Different components say no in different ways; a client that merges them thinks that it must slow down."""
    model = deployments.deploy(stage, None)
    windows = [8]
    refused: list[tuple[int, str]] = []
    for status in (429, 503, 429):
        stage.quirks.set("http.fail", status, endpoint="completions", times=1)
        windows.append(_window_after(stage, model, windows[-1]))
        refused += [(one.status, one.endpoint) for one in stage.exchanges("completions")[-2:] if one.status != 200]
    claim(windows == [8, 4, 2, 1], f"the window went {windows}")
    kinds = {status: sum(one[0] == status for one in refused) for status in (429, 503)}
    claim(kinds == {429: 2, 503: 1}, f"{kinds}")
    return Report(
        sees=[f"each refusal is borne, and halves the number of requests in flight: {windows}"],
        exchanges=[one for one in stage.exchanges("completions") if one.status != 200][:2],
        right=[f"keeps status and component apart ({kinds}), waits as Retry-After says, and slows down for 429 alone"],
    )


def _window_after(stage: Stage, model: str, window: int) -> int:
    """The window of the SDK's adaptive controller after one request that is refused once."""
    from fireworks.training.sdk import AdaptiveConcurrencyController, DeploymentSampler, errors, sampling

    async def run() -> int:
        controller = AdaptiveConcurrencyController(initial_window=window, shrink_cooldown_s=0.0, adjustment_interval=0)
        sampler = DeploymentSampler(
            inference_url=stage.url, model=model, api_key=stage.key, concurrency_controller=controller
        )
        try:
            await sampler.sample_with_prompt_tokens(prompt_token_ids=[1, 2, 3], max_tokens=2)
            return int(controller.window_size)
        finally:
            sampler.close()
            await asyncio.sleep(0.01)  # its connections close in a task

    with stage.fake_time(sampling, errors):
        return asyncio.run(run())


@scenario("G9", "set up for the wrong plane: full-parameter on the pool, an address without its end, an empty list")
def set_up_for_the_wrong_plane(stage: Stage) -> Report:
    """Ways that work on a trainer job do not on the pool, which is found out one call after another."""
    service = stage.serverless()
    full = refusal(lambda: stage.serverless().create_training_client(base_model=BASE, lora_rank=0))
    claim("LoRA" in str(full), f"{full}")
    client = service.create_lora_training_client(BASE, rank=4)
    train(client, 0)
    client.save_state("step-1").result()
    listed = client.list_checkpoints()
    claim(listed == [], f"the trainer's own list says {listed}")
    elsewhere = refusal(stage.service_at, f"{stage.url}/training/v1/rlorTrainerJobs/{stage.account}/none")
    rows = stage.manager.list_training_session_checkpoints(service.training_session_name)
    claim([row["checkpointType"].rsplit("_", 1)[1] for row in rows] == ["LORA"], f"{rows}")
    stage.job("job-1", rank=4)
    sampling = refusal(stage.service("job-1").create_sampling_client, model_path="x")
    return Report(
        sees=[
            f"full-parameter: {trainers.first_line(full)}",
            f"the trainer's own list_checkpoints(): {listed}, although step-1 is saved",
            f"an address that does not end in /training/v1/serverless: {trainers.first_line(elsewhere)}; "
            f"sampling: {trainers.first_line(sampling)}",
        ],
        exchanges=stage.exchanges("list_checkpoints")[-1:],
        right=[
            f"checks account, address and rank before the first call; lists by the session: {short(rows[0]['name'])}"
        ],
    )
