"""A run on the serverless pool: a training session a process, whose rows are found again when it is over.

The pool knows no job. A process opens a session, which holds one of the account's places and the run that it trains;
the next process opens another one and loads what the former saved. `sessions.json` in `log_path` says which they were,
with the rows that they listed: a session that is deleted lists nothing any more, though what it saved still loads.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftsim.training import sdk
from ftsim.training.checkpoints.cursors import replace_file
from ftsim.training.checkpoints.loading import pool_path
from ftsim.training.checkpoints.manager import POOL_NAME_LIMIT
from ftsim.training.checkpoints.promotion import http_status
from ftsim.training.checkpoints.rows import step_name
from ftsim.training.checkpoints.starts import check_start
from ftsim.training.clients import Manager, TrainingClient
from ftsim.training.config import RunConfig
from ftsim.training.errors import CheckpointError, ConfigError

FILE_NAME = "sessions.json"
ENDPOINT = "/training/v1/serverless"


class Pool:
    """The control plane of one run on the pool, and the session that this process has opened on it."""

    def __init__(self, manager: Manager, config: RunConfig) -> None:
        if not hasattr(manager, "list_training_session_checkpoints"):
            raise ConfigError("serverless needs a newer fireworks-ai, which knows training sessions")
        self._manager: Any = manager
        self._config = config
        self._path = Path(config.log_path) / FILE_NAME
        self._noted = _read(self._path)
        self.service: Any = None
        """The SDK's service client of this process's session; None before `training_client`."""
        self.api_key, self.account_id, self.base_url = manager.api_key, manager.account_id, manager.base_url

    @property
    def run_id(self) -> str:
        """The newest run, which takes a job's place in what is told; empty before the first."""
        return str(self._noted["sessions"][-1]["run"]) if self._noted["sessions"] else ""

    def check_names(self, steps: int, phase: str) -> None:
        """Refuse names of steps that the pool would not take at the end of the run."""
        if len(name := step_name(steps, phase)) > POOL_NAME_LIMIT:
            raise ConfigError(
                f"checkpoints would be called {name!r}, and on the pool a name has at most {POOL_NAME_LIMIT} "
                "characters: shorten weight_sync.checkpoint_prefix"
            )

    def list_checkpoints(self, job_id: str) -> list[dict[str, Any]]:
        """Returns the rows of all sessions of the run, those of a session that is over as it last listed them."""
        found: list[dict[str, Any]] = []
        changed = False
        for session in self._noted["sessions"]:
            try:
                rows = self._manager.list_training_session_checkpoints(session["name"])
            except Exception as error:
                if http_status(error) != 404:
                    raise
                found += [self._as_over(row) for row in session["rows"]]
                continue
            changed = changed or rows != session["rows"]
            session["rows"] = rows
            found += rows
        if changed:
            self._write()
        return found

    def _as_over(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row of a run that is over: not to be promoted any more, but what the run ended with if that was done."""
        done = self._config.output_model_id is None or row["name"] in self._noted["promoted"]
        return row | {"promotable": bool(row.get("promotable") and done)}

    def promote_checkpoint(self, *, name: str, output_model_id: str, base_model: str) -> dict[str, Any]:
        """Promote a row of one of the sessions; the SDK's errors pass through."""
        try:
            model: dict[str, Any] = self._manager.promote_session_checkpoint(name, output_model_id, base_model)
        except Exception as error:
            if http_status(error) == 404:
                raise CheckpointError(
                    f"{name} cannot be promoted: its session is over ({error}). Start from the run's last state with a "
                    "new log_path and init_from_checkpoint"
                ) from error
            raise
        self._noted["promoted"].append(name)
        self._write()
        return model

    @contextlib.contextmanager
    def training_client(self) -> Iterator[TrainingClient]:
        """Yields a client on a new session; the places of the sessions before are given back first.

        Raises `ConfigError` when the checkpoint or the adapter that a new run starts from is not there.
        """
        config = self._config
        check_start(self._manager, config)
        self.list_checkpoints("")  # the last chance to see what they list
        for session in self._noted["sessions"]:
            self._manager.delete_training_session(session["name"])
        self.service = sdk.FiretitanServiceClient(base_url=self.base_url.rstrip("/") + ENDPOINT, api_key=self.api_key)
        with contextlib.closing(self.service):
            if config.init_from_checkpoint and not self._noted["sessions"]:
                self._check_checkpoint(config.init_from_checkpoint)
            client = self.service.create_training_client(
                base_model=config.base_model,
                lora_rank=config.lora_rank,
                lora_alpha=config.lora_alpha,
                seed=config.seed,
            )
            # Noted before anything can be saved: what nobody knows of, nobody goes on with.
            self._noted["sessions"].append(
                {"name": self.service.training_session_name, "run": client.run_id, "rows": []}
            )
            self._write()
            yield client

    def close(self) -> None:
        """Give the session's place back. One that failed keeps it, until the run goes on or the session idles out."""
        if self.service is not None:
            self._manager.delete_training_session(self._noted["sessions"][-1]["name"])

    def _check_checkpoint(self, ref: str) -> None:
        path = pool_path(self.account_id, ref)
        try:
            info = self.service.create_rest_client().get_weights_info_by_tinker_path(path).result()
        except Exception as error:
            raise ConfigError(f"init_from_checkpoint {ref!r}: the pool has no {path}: {error}") from error
        config = self._config
        if (info.base_model, info.lora_rank) != (config.base_model, config.lora_rank):
            raise ConfigError(
                f"init_from_checkpoint {ref!r} is of {info.base_model} with LoRA rank {info.lora_rank}, the "
                f"configuration says {config.base_model} with {config.lora_rank}: set both to the checkpoint's"
            )

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._path, json.dumps(self._noted, indent=1).encode())


def session_names(log_path: str) -> list[str]:
    """Returns the full names of the sessions that a run has had, oldest first."""
    return [str(session["name"]) for session in _read(Path(log_path) / FILE_NAME)["sessions"]]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {"sessions": [], "promoted": []}
    except ValueError as error:
        raise CheckpointError(
            f"{path} is damaged: it is not JSON ({error}). It says where the run has saved; restore it from a copy, or "
            "start over with another log_path"
        ) from error
    return dict(found)


@contextlib.contextmanager
def pool_of(manager: Manager, config: RunConfig) -> Iterator[Pool | None]:
    """Yields the pool of a serverless run, whose session is deleted at its end; None for a run on a job."""
    pool = Pool(manager, config) if config.serverless else None
    yield pool
    if pool is not None:
        pool.close()
