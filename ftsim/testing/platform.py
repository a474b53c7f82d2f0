"""The state machine: the vendor's SDK on a real emulator and a real trainer, compared with `ftsim.testing.model`."""

import itertools
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from emulator.clock import parse_rfc3339
from ftsim.testing import ground, model
from ftsim.testing.choices import Row, check, fitting, jobs_in, promotable_rows, refusal_of, rows, some, some_rows
from ftsim.testing.stage import BATCHES, Stage, stage, take_step
from ftsim.testing.tiny import NAME

MOST_JOBS = 4
RANK = 2
PAGE_SIZES = (200, 1, 3, 2)
OTHER_MODEL = "accounts/fireworks/models/qwen3-8b"


class PlatformMachine(RuleBasedStateMachine):
    """Jobs, saves, loads, promotions, crashes and the passing of time."""

    continued: ClassVar[dict[tuple[str, int], str]] = {}
    """What a state became after a step on a batch, over all runs of this process: equal states continue equally."""

    def __init__(self) -> None:
        super().__init__()
        self.stage: Stage = stage()
        self.stage.reset()
        self.world = model.new_world()
        self.clients: dict[str, Any] = {}
        self.syncers: dict[str, Any] = {}
        self.rows: list[Row] = []
        self.touched: set[str] = set()
        self.restarted = False
        self.turn = itertools.count()
        self.names = itertools.count()

    def teardown(self) -> None:
        self.touched = set(self.world["jobs"])
        self.rows_are_those_of_the_model()

    # -- jobs

    @initialize(ranks=st.sampled_from([(0,), (RANK,), (0, RANK), (0, 0), (RANK, RANK)]))
    def create_first_jobs(self, ranks: tuple[int, ...]) -> None:
        for rank in ranks:
            self.create_job(rank)

    @precondition(lambda self: len(self.world["jobs"]) < MOST_JOBS)
    @rule(rank=st.sampled_from([0, RANK]))
    def create_job(self, rank: int) -> None:
        job = f"{'lora' if rank else 'full'}-{len(self.world['jobs'])}"
        self.stage.manager.create(self.stage.job_config(job, rank))
        self.world["jobs"][job] = model.new_job(rank)
        self.touched.add(job)

    @some("running")
    @rule(job=jobs_in("running"))
    def preempt(self, job: str) -> None:
        self.stage.emulator.platform.jobs.preempt(self.stage.account, job)
        self.world["jobs"][job]["state"] = "failed"
        self.forget_live(job)

    @some("failed")
    @rule(job=jobs_in("failed"))
    def resume(self, job: str) -> None:
        self.stage.manager.resume_and_wait(job)
        self.world["jobs"][job]["state"] = "running"

    @precondition(lambda self: len(self.jobs_in("running", "failed")) > 1)
    @rule(job=jobs_in("running", "failed"))
    def delete_job(self, job: str) -> None:
        self.stage.manager.delete(job)
        about = self.world["jobs"][job]
        about["state"], about["deleted"] = "deleted", self.stage.job(job).deleted
        self.forget_live(job)

    @some("deleted")
    @rule(job=jobs_in("deleted"))
    def delete_job_again(self, job: str) -> None:
        """Which does not prolong its retention (FAILURES D17)."""
        self.stage.manager.delete(job)
        assert self.stage.job(job).deleted == self.world["jobs"][job]["deleted"], "a second delete prolongs"

    @precondition(lambda self: self.rows and not self.restarted)
    @rule()
    def restart_the_emulator(self) -> None:
        self.stage.restart()
        self.restarted = True
        for job in self.world["jobs"]:
            self.forget_live(job)

    @some("deleted")
    @rule(days=st.sampled_from([1, 12, 29, 31]))
    def time_passes(self, days: int) -> None:
        self.stage.emulator.clock.advance(days * 24 * 3600)
        now = self.stage.emulator.clock.now()
        for job in self.jobs_in("deleted"):
            about = self.world["jobs"][job]
            if model.purged(about, now):
                about["state"], about["rows"] = "purged", {}
            self.touched.add(job)

    # -- training

    @some("running")
    @rule(job=jobs_in("running"), number=st.integers(0, BATCHES - 1))
    def optim_step(self, job: str, number: int) -> None:
        client, live = self.client(job)
        take_step(client, number)
        before, live["truth"] = live["truth"], self.stage.truth(job, client)
        known = self.continued.setdefault((before.state, number), live["truth"].state)
        assert live["truth"].state == known, "a step from an equal state led elsewhere than it did before"
        assert live["truth"].step == before.step + 1

    @some("running")
    @rule(job=jobs_in("running"), keep=st.booleans(), batches=st.integers(0, 1))
    def save_state(self, job: str, keep: bool, batches: int) -> None:
        for number in range(batches):
            self.optim_step(job, number)
        client, live = self.client(job)
        name = "keep" if keep else f"step-{live['truth'].step}"
        predicted = model.predict_save_state(self.world["jobs"][job], name)
        if check(refusal_of(lambda: client.save_state(name).result()), predicted, f"save_state({name!r})"):
            kind = model.state_kind(self.world["jobs"][job])
            self.put(job, name, {"kind": kind, "step": live["truth"].step, "truth": live["truth"], "against": None})

    @some("running")
    @rule(
        job=jobs_in("running"),
        again=st.booleans(),
        how=st.sampled_from(["base", "base", "delta", "merged_base"]),
        batches=st.integers(0, 2),
    )
    def save_sampler(self, job: str, again: bool, how: str, batches: int) -> None:
        """After some more steps, under a name that was used before or one that was not."""
        label = "again" if again else f"new-{next(self.names)}"
        for number in range(batches):
            self.optim_step(job, number)
        client, live = self.client(job)
        predicted = model.predict_save_sampler(self.world["jobs"][job], how)
        said = refusal_of(client.save_weights_for_sampler_ext, label, checkpoint_type=how)
        if check(said, predicted, f"a sampler save of type {how}"):
            self.sampler_saved(job, f"{label}-{live['suffix']}", how)

    def sampler_saved(self, job: str, name: str, how: str) -> None:
        about = self.world["jobs"][job]
        live = about["live"]
        row = {
            "kind": model.sampler_kind(about, how),
            "step": live["truth"].step,
            "truth": live["truth"],
            "against": None,
        }
        if row["kind"] == "INFERENCE_ARC_V2":
            row["against"] = live["snapshot"]
            assert self.stage.row(job, name).previous_snapshot == live["snapshot"][0]
        else:
            row["merged"] = self.check_files(self.stage.blob(self.stage.row(job, name)), row)
        if not about["rank"]:
            live["snapshot"] = (name, live["truth"].exported)
        self.put(job, name, row)

    @some("running")
    @some_rows()
    @rule(job=jobs_in("running"), row=rows(), optimizer=st.booleans())
    def load_any_row(self, job: str, row: Row, optimizer: bool) -> None:
        self.try_to_load(job, row, optimizer, cross=False)

    @precondition(lambda self: self.fitting())
    @rule(
        pair=fitting(),
        optimizer=st.booleans(),
        cross=st.booleans(),
    )
    def load(self, pair: tuple[str, Row], optimizer: bool, cross: bool) -> None:
        job, row = pair
        self.try_to_load(job, row, optimizer, cross=cross)

    def try_to_load(self, job: str, row: Row, optimizer: bool, *, cross: bool) -> None:
        client, live = self.client(job)
        source, name = row
        about, origin = self.world["jobs"][job], self.world["jobs"][source]
        held = origin["rows"].get(name)
        path = f"cross_job://{source}/{name}" if cross or source != job else name
        predicted = model.predict_load(about, None if origin["state"] == "purged" else origin, held)
        act = client.load_state_with_optimizer if optimizer else client.load_state
        worked = check(refusal_of(lambda: act(path).result()), predicted, f"load of {path}")
        before, live["truth"] = live["truth"], self.stage.truth(job, client)
        if not worked:
            assert live["truth"].state == before.state, "a refused load changed the trainer"
            return
        assert held is not None
        if optimizer:
            assert live["truth"].state == held["truth"].state, "a load is not what was saved"
        else:
            assert live["truth"].exported == held["truth"].exported, "a load has other weights than were saved"
            assert live["truth"].step == 0
            assert live["truth"].fresh, "a load of weights alone left optimizer moments"

    # -- promotion

    @some_rows()
    @rule(row=rows())
    def promote_any_row(self, row: Row) -> None:
        self.try_to_promote(row)

    @precondition(lambda self: self.promotable_rows())
    @rule(row=promotable_rows(), base=st.sampled_from([NAME, NAME, OTHER_MODEL]))
    def promote(self, row: Row, base: str) -> None:
        self.try_to_promote(row, base)

    @precondition(lambda self: self.world["models"] and self.promotable_rows())
    @rule(row=promotable_rows())
    def promote_onto_a_taken_id(self, row: Row) -> None:
        self.try_to_promote(row, output=next(iter(self.world["models"])))

    def try_to_promote(self, row: Row, base: str = NAME, output: str = "") -> None:
        job, name = row
        held = self.world["jobs"][job]["rows"].get(name)
        output = output or f"model-{next(self.names)}"
        predicted = model.predict_promote(self.world, held, base_is_right=base == NAME, output=output)
        full_name = f"accounts/{self.stage.account}/rlorTrainerJobs/{job}/checkpoints/{name}"
        said = refusal_of(
            self.stage.manager.promote_checkpoint, name=full_name, output_model_id=output, base_model=base
        )
        if check(said, predicted, f"promotion of {name}"):
            assert held is not None
            self.world["models"][output] = held
            self.check_model(output, held)

    def check_model(self, output: str, row: dict[str, Any]) -> None:
        """The promoted model's weights are the trainer's at the moment of the save."""
        made = self.stage.emulator.world.models.get(f"accounts/{self.stage.account}/models/{output}")
        assert made is not None
        assert made.state == "READY"
        assert made.kind == ("HF_PEFT_ADDON" if row["kind"] == "INFERENCE_LORA" else "HF_BASE_MODEL")
        assert made.source_step == row["step"]
        self.check_files(self.stage.emulator.platform.blobs.path(made.blob), row)

    def check_files(self, folder: Any, row: dict[str, Any]) -> str | None:
        """Compare files with the trainer's memory; returns the digest of merged weights."""
        from ftsim.sampler.held import fingerprint

        if row["kind"] == "INFERENCE_BASE" and row["truth"].merged is not None:
            ground.check_close(folder, row["truth"].merged)
            return fingerprint(folder)
        assert fingerprint(folder) == row["truth"].exported, f"{folder.name} is not what the trainer held when it saved"
        return None

    # -- helpers

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
            client = self.stage.trainer(job, about["rank"])
            self.clients[job] = client
            about["live"] = model.new_live(self.stage.truth(job, client), client.session_id)
        return self.clients[job], about["live"]

    def forget_live(self, job: str) -> None:
        model.lose_live(self.world["jobs"][job])
        self.clients.pop(job, None)
        self.syncers.pop(job, None)
        self.touched.add(job)

    # -- invariants

    @invariant()
    def rows_are_those_of_the_model(self) -> None:
        """Complete, oldest first, with the kinds of the model and the promotability of the table, at any page size."""
        for job in sorted(self.touched):
            about = self.world["jobs"][job]
            size = PAGE_SIZES[next(self.turn) % len(PAGE_SIZES)]
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
