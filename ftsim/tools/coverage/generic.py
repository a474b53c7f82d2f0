"""The calls of the vendor's generic client: every method, found by looking, with values by the parameters' names."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from ftsim.tools.coverage.judge import Call, judged
from ftsim.tools.coverage.stage import BASE, DEPLOYMENT, JOB, MODEL, Stage

ADDONS = "addons"
"""A deployment that takes add-ons."""

SPARE = "spare"
"""A job that is cancelled, resumed and deleted."""
_MESSAGES = [{"role": "user", "content": "Hi"}]
_ORDER = ("list", "get", "create", "load")
_LAST = ("cancel", "resume", "unload", "delete", "undelete")
VALUES: dict[str, Any] = {
    "base_model": BASE,
    "body": {},
    "create_deployment_request": {"deployment": {"baseModel": BASE}},
    "dataset": {"displayName": "rows"},
    "deployment_id": DEPLOYMENT,
    "filename_to_size": {"a.jsonl": "1"},
    "max_tokens": 4,
    "messages": _MESSAGES,
    "model": BASE,
    "model_id": MODEL,
    "prompt": "Hi",
    "rlor_trainer_job_id": JOB,
    "version_id": "latest",
}
"""Values of required parameters; one that is not here gets a text."""
OF_ONE: dict[str, dict[str, Any]] = {
    "models.create": {"model_id": "new", "model": {"kind": "HF_BASE_MODEL"}},
    "models.get_upload_endpoint": {"model_id": "new"},
    "models.delete": {"model_id": "extra"},
    "chat.completions.create": {"max_tokens": 4},
    "completions.create": {"max_tokens": 4},
    "messages.create": {"max_tokens": 4},
    "deployments.create": {"accelerator_type": "NVIDIA_H200_141GB"},
    "deployments.scale": {"replica_count": 1},
    "reinforcement_fine_tuning_steps.create": {"training_config": {"baseModel": BASE}},
    "lora.load": {
        "deployment": f"accounts/local/deployments/{ADDONS}",
        "model": f"accounts/local/models/{MODEL}",
    },
}
"""Values of single methods."""


def methods(client: object, prefix: str = "") -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public method of a client's resources, with its full name."""
    for name in dir(type(client)):
        if name.startswith(("_", "with_")):
            continue
        found = getattr(client, name, None)
        if type(found).__name__.endswith("Resource"):
            yield from methods(found, f"{prefix}{name}.")
        elif prefix and inspect.ismethod(found):
            yield prefix + name, found


def calls(stage: Stage) -> list[Call]:
    """Call every method once: what lists and reads first, what takes away last."""
    from fireworks import Fireworks
    from fireworks.training.sdk import TrainerJobConfig

    clients = stage.clients
    manager = clients.manager
    manager.promote_checkpoint(name=stage.row("INFERENCE_LORA"), output_model_id="extra", base_model=BASE)
    manager.create_and_wait(TrainerJobConfig(base_model=BASE, lora_rank=4, requested_job_id=SPARE))
    client = Fireworks(api_key=clients.key, base_url=clients.url, account_id=clients.account, max_retries=0)
    with client:
        client.deployments.create(
            deployment_id=ADDONS, base_model=BASE, accelerator_type="NVIDIA_H200_141GB", enable_addons=True
        )
        shape = client.deployment_shapes.list(account_id="fireworks").deployment_shapes[0].name.rpartition("/")[2]
        found = sorted(methods(client), key=_place)
        return sorted((judged(name, _call(name, method, shape)) for name, method in found), key=lambda one: one.name)


def _place(named: tuple[str, Any]) -> int:
    verb = named[0].rpartition(".")[2]
    if verb in _LAST:
        return len(_ORDER) + 1 + _LAST.index(verb)
    return _ORDER.index(verb) if verb in _ORDER else len(_ORDER)


def _call(name: str, method: Callable[..., Any], shape: str) -> Callable[[], Any]:
    required = [one for one in inspect.signature(method).parameters.values() if one.default is inspect.Parameter.empty]
    named = {one.name: VALUES.get(one.name, "some-id") for one in required if one.kind is not one.VAR_KEYWORD}
    if "rlor_trainer_job_id" in named and name.rpartition(".")[2] in _LAST:
        named["rlor_trainer_job_id"] = SPARE
    if "deployment_shape_id" in named:  # these are the vendor's
        named["account_id"], named["deployment_shape_id"] = "fireworks", shape
    return lambda: method(**{**named, **OF_ONE.get(name, {})})
