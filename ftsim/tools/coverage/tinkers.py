"""The calls of tinker's own four clients, where the release of which the page tells is installed."""

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from unittest import mock

from ftsim.tools.coverage.judge import UNCALLED, Call, judged
from ftsim.tools.coverage.stage import Stage
from ftsim.tools.coverage.training import public

RELEASE, PREFIX = "0.38.0", "tinker, "
HUB = "Qwen/Qwen3-8B"


def installed() -> bool:
    """Say whether the page's release of tinker is here; the SDK brings types of its own."""
    try:
        return version("tinker") == RELEASE
    except PackageNotFoundError:
        return False


@dataclass
class Tinker:
    """Clients of `/tinker`, a run, and what was saved there."""

    stage: Stage
    service: Any
    training: Any
    state: str
    sampler: str

    @property
    def run(self) -> str:
        return self.state.split("/")[2]

    def new(self, what: str) -> str:
        return self.stage.new(what)

    def saved(self) -> str:
        """The path of a state that may be deleted."""
        return str(self.training.save_state(self.new("spare")).result().path)


Arguments = Callable[[Tinker], tuple[Any, ...]]


def _datums() -> list[Any]:
    import tinker

    tokens = tinker.TensorData(data=[2, 3, 4], dtype="int64", shape=[3])
    weights = tinker.TensorData(data=[1.0, 1.0, 1.0], dtype="float32", shape=[3])
    prompt = tinker.ModelInput.from_ints([1, 2, 3])
    return [tinker.Datum(model_input=prompt, loss_fn_inputs={"target_tokens": tokens, "weights": weights})]


def _prompt() -> Any:
    import tinker

    return tinker.ModelInput.from_ints([1, 2, 3])


def _params() -> Any:
    import tinker

    return tinker.SamplingParams(max_tokens=2)


def _adam() -> Any:
    import tinker

    return tinker.AdamParams(learning_rate=0.01)


def _search() -> Any:
    import tinker

    return tinker.types.SessionSearchRequest()


def _custom(data: Any, logprobs: Any) -> Any:
    return -sum(one.sum() for one in logprobs), {}


def _per_datum(logprobs: Any, weights: Any) -> Any:
    return -(logprobs * weights).sum(), {}


SERVICE: Mapping[str, Arguments] = {
    "create_lora_training_client": lambda on: (HUB, 4),
    "create_training_client_from_state": lambda on: (on.state,),
    "create_training_client_from_state_with_optimizer": lambda on: (on.state,),
    "create_sampling_client": lambda on: (on.sampler,),
    "create_custom_loss": lambda on: (_per_datum, {"logprobs": 1, "weights": 1}),
    "copy_weights": lambda on: (on.state,),
    "create_rest_client": lambda on: (),
    "get_console_url": lambda on: (),
    "get_server_capabilities": lambda on: (),
    "close": lambda on: ("success",),
}
TRAINING: Mapping[str, Arguments] = {
    "forward": lambda on: (_datums(), "cross_entropy"),
    "forward_backward": lambda on: (_datums(), "cross_entropy"),
    "forward_backward_custom": lambda on: (_datums(), _custom),
    "optim_step": lambda on: (_adam(),),
    "save_state": lambda on: (on.new("state"),),
    "save_weights_for_sampler": lambda on: (on.new("sampler"),),
    "save_weights_external": lambda on: (on.new("external"),),
    "save_weights_and_get_sampling_client": lambda on: (),
    "save_weights_and_get_sampling_client_submit": lambda on: (),
    "load_state": lambda on: (on.state,),
    "load_state_with_optimizer": lambda on: (on.state,),
    "create_sampling_client": lambda on: (on.sampler,),
    "get_console_url": lambda on: (),
    "get_info": lambda on: (),
    "get_tokenizer": lambda on: (),
}
SAMPLING: Mapping[str, Arguments] = {
    "sample": lambda on: (_prompt(), 1, _params()),
    "compute_logprobs": lambda on: (_prompt(),),
    "get_base_model": lambda on: (),
    "get_sampler_handle": lambda on: (),
    "get_tokenizer": lambda on: (),
}
REST: Mapping[str, Arguments] = {
    "get_server_capabilities": lambda on: (),
    "list_training_runs": lambda on: (),
    "get_training_run": lambda on: (on.run,),
    "get_training_run_by_tinker_path": lambda on: (on.state,),
    "get_weights_info_by_tinker_path": lambda on: (on.state,),
    "list_checkpoints": lambda on: (on.run,),
    "list_user_checkpoints": lambda on: (),
    "get_external_weights_urls": lambda on: (str(on.training.save_weights_external(on.new("out")).result().path),),
    "delete_checkpoint": lambda on: (on.run, on.saved().partition(on.run + "/")[2]),
    "delete_checkpoint_from_tinker_path": lambda on: (on.saved(),),
    "set_checkpoint_ttl_from_tinker_path": lambda on: (on.saved(), 7200),
    "list_sessions": lambda on: (),
    "get_session": lambda on: (on.run.partition(":")[0],),
    "get_sampler": lambda on: (on.stage.emulator.platform.sampling.of("local", on.run.partition(":")[0])[0],),
    "copy_weights": lambda on: (on.state, "a-project"),
    "publish_checkpoint_from_tinker_path": lambda on: (on.state,),
    "unpublish_checkpoint_from_tinker_path": lambda on: (on.state,),
    "assign_session_project": lambda on: (on.run.partition(":")[0], "a-project"),
    "export_session_trace": lambda on: (on.run.partition(":")[0],),
    "get_audit_log": lambda on: (),
    "get_billing_usage": lambda on: ("2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"),
    "get_current_checkpoint_storage_usage": lambda on: (),
    "search_sessions": lambda on: (_search(),),
    "whoami": lambda on: (),
}


@contextlib.contextmanager
def _hub() -> Iterator[None]:
    """Let the client find tokenizers, as `ftsim run` does."""
    from ftsim.compute.models import hub

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        variables = hub.build(Path(folder))
        stack.enter_context(mock.patch.dict(os.environ, variables))
        for (module, name), value in hub.read_once(variables).items():
            stack.enter_context(mock.patch.object(sys.modules[module], name, value))
        yield


def calls(stage: Stage) -> Iterator[tuple[str, list[Call]]]:
    """Call every method of the four clients; what the client warns of is called all the same."""
    import tinker

    with (
        _hub(),
        warnings.catch_warnings(),
        stage.emulator.quirks.set("sessions.quota", 0),
    ):  # other clients' runs are there
        warnings.simplefilter("ignore")

        def service() -> Any:
            return tinker.ServiceClient(base_url=f"{stage.clients.url}/tinker", api_key=f"tml-{stage.clients.key}")

        own = service()
        training = own.create_lora_training_client(HUB, 4).result()
        state = training.save_state("state").result().path
        saved = training.save_weights_for_sampler("sampler").result().path
        sampler = own.create_sampling_client(saved).result()
        rest = own.create_rest_client()
        on = Tinker(stage, own, training, state, saved)
        try:
            for client, table in ((rest, REST), (sampler, SAMPLING), (training, TRAINING), (None, SERVICE)):
                kind = tinker.ServiceClient if client is None else type(client)
                known = {name: table.get(name.removesuffix("_async")) for name in public(kind)}
                found = [_one(on, client or service, name, given) for name, given in known.items()]
                yield f"{PREFIX}{kind.__name__}", found
        finally:
            own.close("success")


def _one(on: Tinker, owner: Any, name: str, given: Arguments | None) -> Call:
    """The outcome of one method; the pool has few places, so each service client is closed again."""
    if given is None:
        return Call(name, UNCALLED)
    values, made = given(on), owner() if callable(owner) else None
    method = getattr(made or owner, name)
    try:
        return judged(name, lambda: method(*values))
    finally:
        if made is not None and name != "close":
            made.close("success")
