"""Failures of the signal of a hot load: a configuration unlike the base model's, a ledger that was emptied."""

import json
from typing import Any

from emulator.backend import SavedState
from emulator.core.names import CheckpointScope
from emulator.platform.checkpoints.checkpoints import Origin
from ftsim.scenarios import scenario
from ftsim.scenarios.support import deployments
from ftsim.scenarios.support.report import SDK_1_2_28, Report, claim, refusal, still_upstream
from ftsim.scenarios.support.stage import Stage, train

_LEDGER = f"deployments/{deployments.DEPLOYMENT}/ledger"
_CONFIGURATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "field": ({"attention_chunk_size": 64}, "Extra snapshot model config options: attention_chunk_size"),
    "less": ({"max_position_embeddings": None}, "Extra base model config options: max_position_embeddings"),
    "value": ({"max_position_embeddings": 512}, "Config value mismatch for max_position_embeddings"),
    "class": ({"model_type": "qwen2"}, "Types mismatch"),
}
"""What a trainer writes into config.json that the base model's does not say (None: leaves out), and the refusal."""


@scenario("E29", "a snapshot is refused by its config.json, and the SDK does not say why", upstream=SDK_1_2_28)
def a_snapshot_is_refused_by_its_configuration(stage: Stage) -> Report:
    """The configuration beside a snapshot's weights is compared with the base model's before it is served."""
    client = stage.client()
    deployments.deploy(stage)
    train(client, 0)
    good = deployments.save(client, "good")
    claim(deployments.load(stage, good), deployments.first_error(stage))
    train(client, 1)
    told, why = {}, {}
    for name, (change, _) in _CONFIGURATIONS.items():
        snapshot = _saved_with(stage, client, name, change)
        claim(not deployments.load(stage, snapshot), f"{snapshot} should not be served")
        told[name], why[name] = str(stage.deployments.last_hotload_error_message), deployments.first_error(stage)
        claim(deployments.served(stage) == [good], f"{deployments.served(stage)} instead of the old weights")
    claim(all(why[name].startswith(text) for name, (_, text) in _CONFIGURATIONS.items()), f"{why}")
    hidden = all("reported an error" in told[name] and why[name] not in told[name] for name in told)
    still_upstream(SDK_1_2_28, hidden, f"the message of a failed load leaves out the server's words: {told}")
    refused = stage.exchanges("hot_load_status")[-1]
    with stage.quirks.set("hotload.checked_in", "answer"):
        error = refusal(deployments.load, stage, snapshot)
    answer = stage.exchanges("hot_load")[-1]
    claim(answer.status == 400 and answer.answer["message"].startswith("Types mismatch"), f"{answer.answer}: {error}")
    harmless = _ignoring(stage, deployments.requests(stage)[1]["identity"], ["attention_chunk_size"])
    claim(deployments.served(stage) == [harmless], deployments.first_error(stage))
    corrected = deployments.save(client, "corrected")
    claim(deployments.load(stage, corrected), deployments.first_error(stage))
    claim(deployments.served(stage) == [corrected], f"{deployments.served(stage)}")
    return Report(
        sees=[
            f"{told['value'].splitlines()[0]}: no word of the reason, and {good} is served on",
            *(f"the status itself: {text}" for text in why.values()),
        ],
        exchanges=[refused, answer],
        right=[
            "reads loading_state.error itself",
            f"a harmless field is named in validation.extra_fields_ignore: {harmless}",
            f"else a full snapshot with the base model's configuration: {corrected}",
        ],
    )


def _saved_with(stage: Stage, client: Any, name: str, change: dict[str, Any]) -> str:
    """Save a snapshot as a trainer does whose config.json has these fields, and not those that are None; its identity.

    Our trainer writes the base model's configuration, as it should: the row is saved again with another one.
    """
    identity = deployments.save(client, name)
    row, platform = stage.row("job-1", identity), stage.emulator.platform
    staged, _ = platform.checkpoints.staged_copy(row)
    merged = {**json.loads((staged / "config.json").read_bytes()), **change}
    kept = {field: value for field, value in merged.items() if value is not None}
    (staged / "config.json").write_text(json.dumps(kept), "utf-8")
    scope = CheckpointScope(row.owner)
    origin = Origin(scope, row.base_model, row.lora_rank, row.model_id, row.saved_as, row.bucket)
    return platform.checkpoints.save(origin, identity, staged, SavedState(row.step)).id


def _ignoring(stage: Stage, identity: str, fields: list[str]) -> str:
    """Signal a snapshot whose configuration may differ by these fields, for which the SDK has no argument."""
    body = {"identity": identity, "validation": {"extra_fields_ignore": fields}}
    stage.http.post(deployments.PATH, headers=deployments.headers(stage), json=body).raise_for_status()
    return identity


@scenario("E30", "the ledger is emptied, and the next signal is a delta: there is nothing to compare it with")
def the_ledger_is_emptied(stage: Stage) -> Report:
    """Emptying a deployment's ledger puts its replicas back to the base model; a client's chain knows nothing of it."""
    client = stage.client()
    deployments.deploy(stage)
    untrained = deployments.weights(stage)
    weights = deployments.syncer(stage, client)
    train(client, 0)
    full = deployments.sync(stage, weights, "one")
    train(client, 1)
    delta = deployments.sync(stage, weights, "two")
    for form in ("identity", "json"):
        with stage.quirks.set("hotload.ledger_value", form):
            claim(_signalled(stage) == [delta, full], f"the ledger says {_signalled(stage)}")
    stage.http.delete(_ledger(stage)).raise_for_status()
    claim(_signalled(stage) == [] and deployments.served(stage) == [None], f"{deployments.served(stage)}")
    claim(deployments.weights(stage) == untrained, "the replicas should have the base model's weights")
    train(client, 2)
    error = refusal(deployments.sync, stage, weights, "three")
    refused, signal = deployments.first_error(stage), deployments.requests(stage)[-1]
    claim(signal["incremental_snapshot_metadata"]["previous_snapshot_identity"] == delta, f"{signal}")
    claim("send a full snapshot" in refused and deployments.weights(stage) == untrained, refused)
    after = _synced_by_the_ledger(stage, weights, "four")
    claim(deployments.served(stage) == [after], deployments.first_error(stage))
    claim("incremental_snapshot_metadata" not in deployments.requests(stage)[-1], "the first should be full")
    train(client, 3)
    last = _synced_by_the_ledger(stage, weights, "five")
    claim(deployments.requests(stage)[-1]["incremental_snapshot_metadata"], "the second should be a delta again")
    with stage.quirks.set("hotload.ledger", False):
        gone = stage.http.get(_ledger(stage))
    claim(gone.status_code == 404, f"a plane without a ledger answers {gone.status_code}")
    return Report(
        sees=[f"after the reset: {refused}", str(error).splitlines()[0]],
        exchanges=[*stage.exchanges("reset_ledger"), *stage.exchanges("hot_load")[2:3]],
        right=[f"looks whether the ledger still has what its delta builds on: {after} goes whole, {last} is a delta"],
    )


def _ledger(stage: Stage) -> str:
    return f"/v1/accounts/{stage.account}/{_LEDGER}"


def _signalled(stage: Stage) -> list[str]:
    """The identities that the ledger of the deployment holds, newest first, in either form of its values."""
    values = [row["value"] for row in stage.http.get(_ledger(stage)).json()["ledger"]]
    return [json.loads(value)["identity"] if value.startswith("{") else value for value in values]


def _synced_by_the_ledger(stage: Stage, weights: Any, name: str) -> str:
    """Send a full snapshot where the one that is served is not in the ledger, else what the syncer would send."""
    if not set(deployments.served(stage)) <= set(_signalled(stage)):
        weights.reset_delta_chain()
    return deployments.sync(stage, weights, name)
