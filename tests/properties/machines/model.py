"""The rules of the platform once more, as a dict in few words, for the state machine to compare with.

    world = {"jobs": {id: job}, "models": {id: model}}
    job   = {"rank", "state", "deleted", "rows": {id: row}, "live", "pod"}
    row   = {"kind", "step", "trainer", "against"}
    live  = {"trainer", "snapshot", "suffix", "syncer"}    the model on the trainer and its client; None when it is lost
    pod   = {"current", "weights", "adapter"}              what the replica serves: an identity and digests of weights

`trainer` is a `ftsim.testing.trainer_state.TrainerState`, of a row at the moment of its save. Functions that predict
return None for success and, for a refusal, the words that its message must hold.
"""

from typing import Any

RETENTION_US = 30 * 24 * 3600 * 1_000_000
TABLE = {
    "TRAINING": ("resumable",),
    "TRAINING_LORA": ("resumable",),
    "INFERENCE_BASE": ("promotable",),
    "INFERENCE_LORA": ("promotable",),
    "INFERENCE_ARC_V2": (),
}
MODEL_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
Refusal = tuple[str, ...] | None


def new_world() -> dict[str, Any]:
    return {"jobs": {}, "models": {}}


def new_job(rank: int) -> dict[str, Any]:
    return {"rank": rank, "state": "running", "deleted": None, "rows": {}, "live": None, "pod": None}


def new_live(trainer: Any, suffix: str) -> dict[str, Any]:
    syncer = {"saved": False, "base": None, "checked": False}
    return {"trainer": trainer, "snapshot": None, "suffix": suffix, "syncer": syncer}


def put(job: dict[str, Any], name: str, row: dict[str, Any]) -> None:
    """A row saved again takes its place at the end of the list."""
    job["rows"].pop(name, None)
    job["rows"][name] = row


def listing(job: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Id, kind and promotable of every row, oldest first."""
    return [(name, row["kind"], "promotable" in TABLE[row["kind"]]) for name, row in job["rows"].items()]


def loadable(job: dict[str, Any]) -> list[str]:
    return [name for name, row in job["rows"].items() if "resumable" in TABLE[row["kind"]]]


def purged(job: dict[str, Any], now: int) -> bool:
    return job["deleted"] is not None and now > job["deleted"] + RETENTION_US


def lose_live(job: dict[str, Any]) -> None:
    job["live"] = None


def predict_save_state(job: dict[str, Any], name: str) -> Refusal:
    """A taken name is refused unless it is that very step again."""
    row = job["rows"].get(name)
    if row is None or (row["kind"].startswith("TRAINING") and row["step"] == job["live"]["trainer"].step):
        return None
    return ("already exists",)


def state_kind(job: dict[str, Any]) -> str:
    return "TRAINING_LORA" if job["rank"] else "TRAINING"


def predict_save_sampler(job: dict[str, Any], how: str) -> Refusal:
    live = job["live"]
    if how == "merged_base":
        if not job["rank"]:
            return ("merged_base", "LoRA")
        return None if live["trainer"].touched else ("merged_base",)
    if how == "delta" and not job["rank"] and live["snapshot"] is None:
        return ("delta", "base")
    return None


def sampler_kind(job: dict[str, Any], how: str) -> str:
    if how == "merged_base":
        return "INFERENCE_BASE"
    if job["rank"]:
        return "INFERENCE_LORA"
    return "INFERENCE_ARC_V2" if how == "delta" else "INFERENCE_BASE"


def predict_load(job: dict[str, Any], source: dict[str, Any] | None, row: dict[str, Any] | None) -> Refusal:
    if source is None or row is None:
        return ("not found",)
    if "resumable" not in TABLE[row["kind"]]:
        return ("sampler weights", row["kind"])
    if source["rank"] != job["rank"]:
        return ("LoRA",) if 0 in (source["rank"], job["rank"]) else ("rank",)
    return None


def predict_promote(
    world: dict[str, Any], row: dict[str, Any] | None, *, base_is_right: bool, output: str, blob: str = ""
) -> Refusal:
    """The first thing that is wrong, in the order in which the service looks; `blob` is "", missing or truncated."""
    if not 1 <= len(output) <= 63 or set(output) - MODEL_LETTERS:
        return ("HTTP 400", "models/") if "/" in output or not output else ("HTTP 400", "invalid model id")
    if row is None:
        return ("HTTP 404",)
    if "promotable" not in TABLE[row["kind"]]:
        return ("HTTP 400", row["kind"], "not promotable", 'checkpoint_type="base"', "promotable=True")
    if not base_is_right:
        return ("HTTP 400", "base_model")
    if output in world["models"]:
        return ("HTTP 409", "already exists")
    return {"": None, "missing": ("HTTP 404", "not found in GCS"), "truncated": ("HTTP 400", "save it again")}[blob]


def plan_sync(job: dict[str, Any]) -> tuple[str, str | None]:
    """Predict what the SDK's WeightSyncer saves next, and the snapshot it names as previous (WIRE 3.4)."""
    syncer = job["live"]["syncer"]
    if not syncer["checked"]:
        syncer["checked"] = True
        if job["pod"]["current"] is not None:
            syncer["base"] = None
    how = "base" if job["rank"] or not syncer["saved"] else "delta"
    return how, syncer["base"] if how == "delta" else None


def predict_hot_load(pod: dict[str, Any], row: dict[str, Any], previous: str | None) -> Refusal:
    """A delta goes onto the very weights it was taken against, and says so; everything else says nothing."""
    if row["kind"].startswith("TRAINING"):
        return ("training state",)
    if row["kind"] != "INFERENCE_ARC_V2":
        return None if previous is None else ("incremental",)
    if previous is None or previous != pod["current"]:
        return ("previous",) if previous else ("incremental_snapshot_metadata",)
    return None if pod["weights"] == row["against"][1] else ("hecksum",)


def hot_load(pod: dict[str, Any], name: str, row: dict[str, Any]) -> None:
    """An adapter lies on top of the full weights held; full weights and deltas replace it."""
    exported = row["trainer"].exported
    if row["kind"] == "INFERENCE_LORA":
        pod["adapter"] = exported
    else:
        pod["weights"], pod["adapter"] = row.get("merged") or exported, None
    pod["current"] = name
