"""The machine of jobs: the vendor's SDK on a real emulator and a real trainer, compared with the dict of `model`."""

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from ftsim.testing.clients import BATCHES, take_step
from tests.properties.machines import model
from tests.properties.machines.choices import Row, check, fitting, jobs_in, refusal_of, rows, some, some_rows
from tests.properties.machines.served import Served

MOST_JOBS = 4
RANK = 2


class PlatformMachine(Served):
    """Jobs, saves, loads, promotions, uploads, add-ons, crashes and the passing of time."""

    # -- jobs

    @initialize(
        ranks=st.sampled_from([(0,), (RANK,), (0, RANK), (0, 0), (RANK, RANK)]),
        page_sizes=st.lists(st.integers(1, 12) | st.just(200), min_size=1, max_size=4),
    )
    def create_first_jobs(self, ranks: tuple[int, ...], page_sizes: Sequence[int] = (200,)) -> None:
        self.page_sizes = tuple(page_sizes)
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
        about["state"], about["deleted"] = "deleted", self.deleted_at(job)
        self.forget_live(job)

    @some("deleted")
    @rule(job=jobs_in("deleted"))
    def delete_job_again(self, job: str) -> None:
        """Delete a deleted job, which does not prolong its retention (FAILURES D17)."""
        self.stage.manager.delete(job)
        assert self.deleted_at(job) == self.world["jobs"][job]["deleted"], "a second delete prolongs"

    @precondition(lambda self: self.rows and not self.restarted)
    @rule()
    def restart_the_emulator(self) -> None:
        self.stage.restart()
        self.restarted = True
        for job in self.world["jobs"]:
            self.forget_live(job)

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
        before, live["trainer"] = live["trainer"], self.stage.trainer_state(client)
        known = self.continued.setdefault((before.state, number), live["trainer"].state)
        assert live["trainer"].state == known, "a step from an equal state led elsewhere than it did before"
        assert live["trainer"].step == before.step + 1

    @some("running")
    @rule(job=jobs_in("running"), keep=st.booleans(), batches=st.integers(0, 1))
    def save_state(self, job: str, keep: bool, batches: int) -> None:
        for number in range(batches):
            self.optim_step(job, number)
        client, live = self.client(job)
        name = "keep" if keep else f"step-{live['trainer'].step}"
        predicted = model.predict_save_state(self.world["jobs"][job], name)
        if check(refusal_of(lambda: client.save_state(name).result()), predicted, f"save_state({name!r})"):
            kind = model.state_kind(self.world["jobs"][job])
            self.put(
                job, name, {"kind": kind, "step": live["trainer"].step, "trainer": live["trainer"], "against": None}
            )

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
            "step": live["trainer"].step,
            "trainer": live["trainer"],
            "against": None,
        }
        if row["kind"] == "INFERENCE_ARC_V2":
            row["against"] = live["snapshot"]
            assert self.stage.row(job, name).previous_snapshot == live["snapshot"][0]
        else:
            row["merged"] = self.check_files(self.stage.blob(self.stage.row(job, name)), row)
        if not about["rank"]:
            live["snapshot"] = (name, live["trainer"].exported)
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
        before, live["trainer"] = live["trainer"], self.stage.trainer_state(client)
        if not worked:
            assert live["trainer"].state == before.state, "a refused load changed the trainer"
            return
        assert held is not None
        if optimizer:
            assert live["trainer"].state == held["trainer"].state, "a load is not what was saved"
        else:
            assert live["trainer"].exported == held["trainer"].exported, "a load has other weights than were saved"
            assert live["trainer"].step == 0
            assert live["trainer"].fresh, "a load of weights alone left optimizer moments"
