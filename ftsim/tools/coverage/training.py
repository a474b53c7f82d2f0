"""The calls of the vendor's training client: what each public method is given; `NAME_async` gets what `NAME` gets."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ftsim.testing.clients import batch, close_quietly
from ftsim.tools.coverage.judge import UNCALLED, Call, judged
from ftsim.tools.coverage.stage import BASE, DEPLOYMENT, JOB, MODEL, Stage

Arguments = Callable[[Stage], tuple[Any, ...] | dict[str, Any]]
_PLUMBING = ("get_telemetry", "on_queue_state_change")
"""Methods by which the client's own parts talk to each other; they ask no service."""


def _adam() -> Any:
    from fireworks.training.sdk import types

    return types.AdamParams(learning_rate=0.01)


def _prompt() -> Any:
    from fireworks.training.sdk import types

    return types.ModelInput.from_ints([1, 2, 3])


def _sampling() -> Any:
    from fireworks.training.sdk import types

    return types.SamplingParams(max_tokens=2)


def _custom(data: Any, logprobs: Any) -> Any:
    return -sum(one.sum() for one in logprobs), {}


def _forward(stage: Stage) -> tuple[Any, ...]:
    return batch(0), "cross_entropy"


TRAINING: dict[str, Arguments] = {
    "forward": _forward,
    "forward_backward": _forward,
    "forward_backward_custom": lambda stage: (batch(0), _custom),
    "forward_backward_contrastive": lambda stage: {"data": batch(0) * 2, "num_queries": 1, "temperature": 1.0},
    "forward_projection": lambda stage: (batch(0),),
    "get_info": lambda stage: (),
    "get_tokenizer": lambda stage: (),
    "list_checkpoints": lambda stage: (),
    "load_state": lambda stage: (stage.saved,),
    "load_state_with_optimizer": lambda stage: (stage.saved,),
    "load_adapter": lambda stage: (f"accounts/{stage.clients.account}/models/{MODEL}",),
    "optim_step": lambda stage: (_adam(),),
    "resolve_checkpoint_path": lambda stage: (stage.saved,),
    "save_state": lambda stage: (stage.new("state"),),
    "save_weights_for_sampler": lambda stage: (stage.new("sampler"),),
    "save_weights_for_sampler_ext": lambda stage: (stage.new("sampler"), "base"),
    "create_base_training_client": lambda stage: (BASE,),
    "create_sampling_client": lambda stage: (stage.clients.job_name(JOB) + "/checkpoints/served",),
    "weight_sync": lambda stage: (),
    "unload_model": lambda stage: (),
}
SERVICE: dict[str, Arguments] = {
    "create_training_client": lambda stage: (BASE, 4),
    "create_lora_training_client": lambda stage: (BASE, 4),
    "create_training_client_from_state": lambda stage: (stage.pooled_state,),
    "create_training_client_from_state_with_optimizer": lambda stage: (stage.pooled_state,),
    "create_sampling_client": lambda stage: (stage.pooled_sampler,),
    "create_deployment_sampler": lambda stage: (stage.pooled_sampler,),
    "create_deployment_sampler_for_model": lambda stage: (BASE,),
    "create_inference_deployment_sampler": lambda stage: (_deployment(stage.new("deployment")),),
    "hotload_sampler_snapshot": lambda stage: (stage.pooled_sampler,),
    "promote_checkpoint": lambda stage: (JOB, "served", stage.new("model"), BASE),
    "create_base_training_client": lambda stage: (BASE,),
    "create_reference_client": lambda stage: (BASE,),
    "create_rest_client": lambda stage: (),
    "get_server_capabilities": lambda stage: (),
    "list_checkpoints": lambda stage: (JOB,),
    "release_references": lambda stage: (),
    "requires_initial_sampler_sync": lambda stage: (),
    "delete_training_session": lambda stage: (),
    "close": lambda stage: (),
}
MANAGER: dict[str, Arguments] = {
    "get": lambda stage: (JOB,),
    "try_get": lambda stage: ("nobody",),
    "create": lambda stage: (_config(stage.new("made")),),
    "create_and_wait": lambda stage: (_config(stage.new("made")),),
    "delete": lambda stage: ("made-of-nothing",),
    "delete_training_session": lambda stage: (f"accounts/{stage.clients.account}/trainingSessions/gone",),
    "list_checkpoints": lambda stage: (JOB,),
    "list_training_job_checkpoints": lambda stage: (_old(stage),),
    "list_training_session_checkpoints": lambda stage: (_session(stage),),
    "model_is_moe": lambda stage: (BASE,),
    "promote_checkpoint": lambda stage: {
        "name": stage.row("INFERENCE_LORA"),
        "output_model_id": stage.new("model"),
        "base_model": BASE,
    },
    "promote_session_checkpoint": lambda stage: (_session_row(stage), stage.new("model"), BASE),
    "promote_training_job_checkpoint": lambda stage: (f"{_old(stage)}/checkpoints/last", stage.new("model"), BASE),
    "resolve_training_profile": lambda stage: ("accounts/fireworks/trainingShapes/qwen3-8b-128k",),
    "resume_and_wait": lambda stage: (_cancelled(stage),),
    "reconnect_and_wait": lambda stage: (JOB,),
    "wait_for_existing": lambda stage: (JOB,),
    "wait_for_ready": lambda stage: (JOB,),
}
DEPLOYMENTS: dict[str, Arguments] = {
    "create_or_get": lambda stage: (_deployment(stage.new("deployment")),),
    "delete": lambda stage: (_made(stage),),
    "get": lambda stage: (DEPLOYMENT,),
    "hotload": lambda stage: (DEPLOYMENT, BASE, _identity(stage)),
    "hotload_and_wait": lambda stage: (DEPLOYMENT, BASE, _identity(stage)),
    "hotload_check_status": lambda stage: (DEPLOYMENT, BASE),
    "wait_for_hotload": lambda stage: (DEPLOYMENT, BASE, _identity(stage)),
    "wait_for_ready": lambda stage: (DEPLOYMENT,),
    "reattach_trainer": lambda stage: {
        "deployment": DEPLOYMENT,
        "base_model": BASE,
        "trainer_job_name": stage.clients.job_name(JOB),
        "timeout_s": 30,
    },
    "scale_to_zero": lambda stage: (_made(stage),),
    "update": lambda stage: (DEPLOYMENT, {"displayName": "seen"}, "display_name"),
    "warmup": lambda stage: (f"accounts/{stage.clients.account}/deployments/{DEPLOYMENT}",),
}
SYNCER: dict[str, Arguments] = {
    "check_deployment_state": lambda stage: (),
    "get_deployment_sampler": lambda stage: (),
    "get_sampling_client": lambda stage: (),
    "hotload": lambda stage: (_identity(stage), "base"),
    "reset_delta_chain": lambda stage: (),
    "save_and_hotload": lambda stage: (stage.new("synced"), "base"),
    "save_only": lambda stage: (stage.new("synced"), "base"),
    "wait_for_hotload_ready": lambda stage: (),
}
SAMPLER: dict[str, Arguments] = {
    "compute_logprobs": lambda stage: (_prompt(),),
    "get_base_model": lambda stage: (),
    "get_tokenizer": lambda stage: (),
    "sample": lambda stage: (_prompt(), 1, _sampling()),
}


def _config(job: str) -> Any:
    from fireworks.training.sdk import TrainerJobConfig

    return TrainerJobConfig(base_model=BASE, lora_rank=4, requested_job_id=job)


def _cancelled(stage: Stage) -> str:
    job = stage.new("cancelled")
    stage.clients.manager.create_and_wait(_config(job))
    stage.emulator.platform.jobs.preempt(stage.clients.account, job)
    return job


def _deployment(name: str) -> Any:
    from fireworks.training.sdk import DeploymentConfig

    return DeploymentConfig(deployment_id=name, base_model=BASE, accept_shapeless_risk=True)


def _made(stage: Stage) -> str:
    name = stage.new("deployment")
    stage.clients.deployments.create_or_get(_deployment(name))
    return name


def _identity(stage: Stage) -> str:
    return stage.row("INFERENCE_LORA").rpartition("/")[2]


def _session(stage: Stage) -> str:
    return next(one.name for one in stage.emulator.world.sessions)


def _session_row(stage: Stage) -> str:
    return str(stage.clients.manager.list_training_session_checkpoints(_session(stage))[-1]["name"])


def _old(stage: Stage) -> str:
    return f"accounts/{stage.clients.account}/supervisedFineTuningJobs/old"


def public(kind: type) -> list[str]:
    """The methods of a class that a program may call."""
    found = [name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")]
    made_by = [name for name in found if isinstance(inspect.getattr_static(kind, name), staticmethod | classmethod)]
    return [name for name in found if name not in (*_PLUMBING, *made_by)]


def calls(stage: Stage) -> Iterator[tuple[str, list[Call]]]:
    """Call every method of every class; groups by the name of the class."""
    from fireworks.training.sdk import FiretitanServiceClient, WeightSyncer

    service = stage.clients.serverless()
    pooled = service.create_lora_training_client(BASE, rank=4)
    stage.pooled_state = pooled.save_state("pooled").result().path
    stage.pooled_sampler = pooled.save_weights_for_sampler("sampled").result().path
    sampler = service.create_sampling_client(stage.pooled_sampler)
    syncer = WeightSyncer(
        policy_client=stage.training,
        deploy_mgr=stage.clients.deployments,
        deployment_id=DEPLOYMENT,
        base_model=BASE,
        warmup_after_hotload=False,
        lora_rank=4,
    )
    groups: tuple[tuple[Callable[[], Any], Mapping[str, Arguments]], ...] = (
        (lambda: stage.clients.manager, MANAGER),
        (lambda: stage.clients.deployments, DEPLOYMENTS),
        (lambda: syncer, SYNCER),
        (lambda: stage.training, TRAINING),
        (lambda: sampler, SAMPLER),
        (stage.clients.serverless, SERVICE),  # one has one client alone
    )
    for owner, table in groups:
        kind = FiretitanServiceClient if table is SERVICE else type(owner())
        yield kind.__name__, [_one(stage, owner, name, table) for name in _ordered(kind, table)]


def _ordered(kind: type, table: Mapping[str, Arguments]) -> list[str]:
    """Methods in the table's order, those that end something last."""
    known = list(table)
    names = [name for name in public(kind) if name != "close" or "close" in table]
    return sorted(names, key=lambda name: (_at(known, name), name))


def _at(known: list[str], name: str) -> int:
    name = name.removesuffix("_async")
    return known.index(name) if name in known else -1


def _one(stage: Stage, owner: Callable[[], Any], name: str, table: Mapping[str, Arguments]) -> Call:
    given = table.get(name.removesuffix("_async"))
    if given is None:
        return Call(name, UNCALLED)
    values = given(stage)
    method = getattr(owner(), name)
    try:
        return judged(name, lambda: method(**values) if isinstance(values, dict) else method(*values))
    finally:
        if table is SERVICE:  # the pool has few places
            for service in stage.clients.given_up():
                close_quietly(service)
