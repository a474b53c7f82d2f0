"""The base of every state machine of the platform: stage and model, clients that come and go, the invariant."""

import itertools
from typing import Any, ClassVar

from hypothesis.stateful import RuleBasedStateMachine, invariant

from emulator.core.clock import parse_rfc3339
from ftsim.testing.stage import KeptStage, stage
from tests.properties.machines import files, model
from tests.properties.machines.choices import Row, check, refusal_of


class Machine(RuleBasedStateMachine):
    """Jobs and their rows on a stage, compared with the dict of `model`."""

    continued: ClassVar[dict[tuple[str, int], str]] = {}
    """What a state became after a step on a batch, over all runs of this process: equal states continue equally."""

    def __init__(self) -> None:
        super().__init__()
        self.stage: KeptStage = stage()
        self.stage.reset()
        self.world = model.new_world()
        self.clients: dict[str, Any] = {}
        self.syncers: dict[str, Any] = {}
        self.rows: list[Row] = []
        self.touched: set[str] = set()
        self.restarted = False
        self.page_sizes: tuple[int, ...] = (200,)
        self.turn = itertools.count()
        self.names = itertools.count()

    def teardown(self) -> None:
        self.touched = set(self.world["jobs"])
        self.rows_are_those_of_the_model()

    # -- helpers

    def deleted_at(self, job: str) -> int | None:
        """The time at which a job was deleted, in microseconds; raises NotFound."""
        return self.stage.emulator.platform.jobs.get(self.stage.account, job).deleted

    def jobs_in(self, *states: str) -> list[str]:
        return [job for job, about in self.world["jobs"].items() if about["state"] in states]

    def fitting(self) -> list[tuple[str, Row]]:
        """Running jobs and the training states that fit them."""
        jobs = self.world["jobs"]
        states = [(job, name) for job, name in self.rows if name in model.loadable(jobs[job])]
        return [
            (job, row) for job in self.jobs_in("running") for row in states if jobs[row[0]]["rank"] == jobs[job]["rank"]
        ]

    def promotable_rows(self) -> list[Row]:
        listed = [(job, name, self.world["jobs"][job]["rows"].get(name)) for job, name in self.rows]
        return [(job, name) for job, name, row in listed if row and "promotable" in model.TABLE[row["kind"]]]

    def put(self, job: str, name: str, row: dict[str, Any]) -> None:
        model.put(self.world["jobs"][job], name, row)
        if (job, name) not in self.rows:
            self.rows.append((job, name))
        self.restarted = False
        self.touched.add(job)

    def client(self, job: str) -> tuple[Any, dict[str, Any]]:
        """The training client of a running job, a new one where the last was lost, and what the model knows of it."""
        about = self.world["jobs"][job]
        if about["live"] is None:
            client = self.stage.training_client(job, about["rank"])
            self.clients[job] = client
            about["live"] = model.new_live(self.stage.trainer_state(client), client.session_id)
        return self.clients[job], about["live"]

    def forget_live(self, job: str) -> None:
        model.lose_live(self.world["jobs"][job])
        self.clients.pop(job, None)
        self.syncers.pop(job, None)
        self.touched.add(job)

    def check_files(self, folder: Any, row: dict[str, Any]) -> str | None:
        """Compare files with the trainer's memory; returns the digest of merged weights."""
        from ftsim.compute.sampler.weights import fingerprint

        if row["kind"] == "INFERENCE_BASE" and row["trainer"].merged is not None:
            files.check_close(folder, row["trainer"].merged)
            return fingerprint(folder)
        assert fingerprint(folder) == row["trainer"].exported, (
            f"{folder.name} is not what the trainer held when it saved"
        )
        return None

    # -- invariants

    @invariant()
    def rows_are_those_of_the_model(self) -> None:
        """Complete, oldest first, with the kinds of the model and the promotability of the table, at any page size."""
        for job in sorted(self.touched):
            about = self.world["jobs"][job]
            size = self.page_sizes[next(self.turn) % len(self.page_sizes)]
            if about["state"] == "purged":
                said = refusal_of(self.stage.manager.list_checkpoints, job, page_size=size)
                check(said, ("404",), f"listing the rows of {job} after its retention")
                continue
            listed = self.stage.manager.list_checkpoints(job, page_size=size)
            found = [
                (
                    row["name"].rsplit("/", 1)[1],
                    row["checkpointType"].removeprefix("CHECKPOINT_TYPE_"),
                    row["promotable"],
                )
                for row in listed
            ]
            assert found == model.listing(about), f"the rows of {job} at page size {size}"
            times = [parse_rfc3339(row["createTime"]) for row in listed]
            assert all(earlier < later for earlier, later in itertools.pairwise(times))
            if about["live"] is not None:
                assert self.clients[job].list_checkpoints() == model.loadable(about)
        self.touched = set()
