"""The identity of a run, data and plan: noted in its `log_path`, so that it goes on with the same or not at all.

A change that would make the steps, the schedule, the order of the rows or the log untrue is refused by name, with both
values. A field that the user did not set takes the value that the run began with, and so causes no refusal.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from ftsim.training.checkpoints.cursors import Cursors, replace_file
from ftsim.training.config import RunConfig, is_set
from ftsim.training.data.files import digest_of
from ftsim.training.errors import CheckpointError
from ftsim.training.steps import read_scheduler

FILE_NAME = "rows.json"
HARMLESS = frozenset(
    {
        "log_path", "base_model", "lora_rank",  # the trainer job holds the run to these two
        "output_model_id", "init_from_checkpoint", "restore_optimizer", "warm_start_from_adapter", "trainer_job_id",
        "learning_rate", "beta1", "beta2", "eps", "weight_decay", "grad_clip_norm",
        "save_final_checkpoint", "step_timeout", "infra", "weight_sync", "trainer", "dcp_save_interval",
        "report_to", "renderer_name", "evaluation_dataset", "eval_auto_carveout", "eval_interval", "pipeline_depth",
        "deployment", "deployment_id", "deployment_replicas", "rollout_concurrency",
        "weight_sync_interval", "weight_sync_before_training", "weight_sync_timeout",
    }
)  # fmt: skip
"""Fields that a run may go on with at any value; a fork's own fields are not among them."""
OF_THE_ROWS = (
    "dataset",
    "max_examples",
    "tokenizer_model",
    "tokenizer_revision",
    "max_seq_len",
    "truncate",
    "on_bad_row",
    "train_on_what",
    "ground_truth_key",
)
"""Fields that count through the tokens and weights that follow from them."""
_CURE = "set them as they were, or use a new log_path (init_from_checkpoint starts it from the weights there are)"


@dataclass(frozen=True)
class Change:
    """A field of a run, as the run began with it and as it is now."""

    name: str
    old: object
    new: object


@dataclass(frozen=True)
class Identity:
    """Identifies a run: digests of the rows that are trained and held out, their number, and its settings."""

    tokens: str
    held_out: str | None
    rows: int
    settings: Mapping[str, Any]

    def changes(self, began: "Identity", consumed: int, planned: int) -> list[Change]:
        """Returns what this run does not share with the one that `began`.

        `consumed` are the data rows that its checkpoints have seen, `planned` those of all its steps now.
        """
        different = [
            Change(name, value, self.settings[name])
            for name, value in began.settings.items()
            if name in self.settings and self.settings[name] != value
        ]
        found = [one for one in different if one.name not in (*OF_THE_ROWS, "eval_dataset", "epochs")]
        if self.tokens != began.tokens:
            found += [one for one in different if one.name in OF_THE_ROWS]
            if not any(one.name in (*OF_THE_ROWS, "max_completion_tokens") for one in found):
                found.append(Change("dataset", _rows(began.rows, began.tokens), _rows(self.rows, self.tokens)))
        if None not in (self.held_out, began.held_out) and self.held_out != began.held_out:
            causes = [one for one in different if one.name == "eval_dataset"]
            found += causes or [Change("eval_dataset", _short(began.held_out), _short(self.held_out))]
        if consumed > planned:
            found += [one for one in different if one.name == "epochs"]
        return found


def identity_of(config: RunConfig, tokens: str | None, held_out: str | None, rows: int) -> Identity:
    """Returns what `config` trains; without a digest of the tokens the bytes of its file stand for them."""
    return Identity(tokens or digest_of(config.dataset), held_out, rows, _settings(config))


def check_identity(config: RunConfig, now: Identity, *, begun: bool, planned: int) -> list[str]:
    """Refuse to go on with other rows, or by another plan, than the run began with; returns lines to be said.

    `begun` tells that checkpoints of the run exist; before that it may begin anew with anything, and what it begins
    with is noted. `planned` are the rows that all its steps consume. Raises `CheckpointError`.
    """
    path = Path(config.log_path) / FILE_NAME
    noted = _read(path)
    said: list[str] = []
    if begun and noted is not None:
        consumed = max(Cursors(config.log_path).recorded().values(), default=0)
        if "settings" in noted:
            changed = now.changes(_identity(noted), consumed, planned)
            said = _stretched(config, noted["settings"].get("epochs"))
        else:
            changed = _changes_of_old(config, noted)
        if changed:
            refuse(config, changed)
    return said


def note(config: RunConfig, now: Identity) -> None:
    """Write down what the run trains, for when it goes on."""
    content = {"tokens": now.tokens, "held_out": now.held_out, "rows": now.rows, "settings": now.settings}
    replace_file(Path(config.log_path) / FILE_NAME, json.dumps(content, indent=1).encode())


def refuse(config: RunConfig, changed: Sequence[Change]) -> None:
    """Raise `CheckpointError` that names every changed field with both values, in one line."""
    names = ", ".join(one.name for one in changed)
    values = "; ".join(f"{one.name} was {one.old!r} and is {one.new!r}" for one in changed)
    raise CheckpointError(
        f"{names} changed since {config.log_path} began: {values}. Steps, schedule, order or log would no longer be "
        f"true: {_CURE}"
    )


def as_begun(config: RunConfig) -> list[str]:
    """Give fields that the user did not set the values that the run of `log_path` began with; returns lines to be said.

    Call it before anything is made of the configuration, which it changes. A run without checkpoints begins anew.
    """
    noted = _read(Path(config.log_path) / FILE_NAME)
    cursors = Cursors(config.log_path)
    if noted is None or not (cursors.recorded() or cursors.announced()):
        return []
    began = noted.get("settings", noted)
    now = _settings(config)
    taken = [
        Change(name, now[name], began[name])
        for name in now.keys() & began.keys()
        if now[name] != began[name] and not is_set(config, name)
        if "settings" in noted or name not in ("dataset", "group_by_length", "eval_split")
    ]
    for one in taken:
        setattr(config, one.name, one.new)
    if taken:
        config.__post_init__()
    return [f"{one.name} is {one.new!r}, as the run began; {one.old!r} is a default" for one in sorted(taken, key=str)]


def _settings(config: RunConfig) -> dict[str, Any]:
    """Returns the fields that are noted; those that JSON cannot hold are left out."""
    found: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name == "lr_scheduler" and value is not None:
            value = str(read_scheduler(value))
        if field.name not in HARMLESS and _plain(value) is not NotImplemented:
            found[field.name] = _plain(value)
    return found


def _plain(value: object) -> Any:
    """Returns a value as JSON gives it back; `NotImplemented` for one that JSON has no form for."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return NotImplemented


def _stretched(config: RunConfig, epochs: object) -> list[str]:
    """Returns a line when a schedule that falls to the end of the run has another end now."""
    constant = config.lr_scheduler is None and config.lr_schedule == "constant"
    if constant or epochs in (None, config.epochs):
        return []
    return [f"epochs is {config.epochs}, and was {epochs}: the learning rate follows the schedule of the new length"]


def _changes_of_old(config: RunConfig, noted: Mapping[str, Any]) -> list[Change]:
    """Returns what differs from a file that older versions wrote: a digest of the data set's bytes, and the order."""
    now = {
        "dataset": digest_of(config.dataset),
        "max_examples": config.max_examples,
        "eval_split": getattr(config, "eval_split", None),
        "seed": config.seed,
        "group_by_length": getattr(config, "group_by_length", False) or None,
    }
    return [Change(name, noted.get(name), value) for name, value in now.items() if noted.get(name) != value]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("settings", {}), dict) else None


def _identity(noted: Mapping[str, Any]) -> Identity:
    return Identity(str(noted.get("tokens")), noted.get("held_out"), int(noted.get("rows", 0)), noted["settings"])


def _rows(count: int, digest: str) -> str:
    return f"{count} rows with tokens {digest[:12]}"


def _short(digest: str | None) -> str:
    return f"tokens {str(digest)[:12]}"
