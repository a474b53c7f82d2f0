"""The state machine with deployments: snapshots go onto replicas, in order, out of order and into failures."""

import contextlib
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from ftsim.testing.tiny import NAME, tiny_model
from tests.properties.machines import files, model
from tests.properties.machines.choices import Row, jobs_in, refusal_of, some
from tests.properties.machines.platform import PlatformMachine


class HotLoadMachine(PlatformMachine):
    """As before, and every job has a deployment that its snapshots are loaded onto."""

    @some("running")
    @rule(
        job=jobs_in("running"),
        rounds=st.integers(1, 3),
        batches=st.integers(0, 1),
        trouble=st.sampled_from(["", "", "the load fails", "a link is skipped"]),
        again=st.sampled_from(["", "", "nothing", "current", "another"]),
    )
    def sync(self, job: str, rounds: int, batches: int, trouble: str, again: str) -> None:
        """Train and sync some times over; in the last round the load may fail, or miss a save (FAILURES E9, E10).

        Then the last snapshot may be loaded once more, onto whatever `again` says.
        """
        for left in reversed(range(rounds)):
            for number in range(batches):
                self.optim_step(job, number)
            if trouble == "a link is skipped" and left == 0:
                self.save_sampler(job, again=False, how="base", batches=1)
            self.save_and_hotload(job, fails=trouble == "the load fails" and left == 0)
        if again:
            self.hot_load(self.rows[-1], again)

    def save_and_hotload(self, job: str, *, fails: bool) -> None:
        """The SDK's WeightSyncer decides what to save and how to load it."""
        syncer, about = self.syncer(job), self.world["jobs"][job]
        how, previous = model.plan_sync(about)
        label = f"sync-{next(self.names)}"
        name = f"{label}-{about['live']['suffix']}"
        with self.stage.emulator.quirks.set("hotload.fail_next", True) if fails else contextlib.nullcontext():
            said = refusal_of(syncer.save_and_hotload, label)
        about["live"]["syncer"]["saved"] = True
        self.sampler_saved(job, name, how)
        self.loaded(job, name, previous, said, broken=fails)
        if said is None:
            about["live"]["syncer"]["base"] = name

    @precondition(lambda self: self.loadable_rows())
    @rule(
        row=st.runner().flatmap(lambda self: st.sampled_from(self.loadable_rows())),
        onto=st.sampled_from(["nothing", "current"]),
    )
    def hot_load_any_row(self, row: Row, onto: str) -> None:
        self.hot_load(row, onto)

    @precondition(lambda self: self.loadable_rows("INFERENCE_ARC_V2"))
    @rule(
        row=st.runner().flatmap(lambda self: st.sampled_from(self.loadable_rows("INFERENCE_ARC_V2"))),
        onto=st.sampled_from(["nothing", "current", "another"]),
    )
    def hot_load_a_delta(self, row: Row, onto: str) -> None:
        self.hot_load(row, onto)

    def hot_load(self, row: Row, onto: str) -> None:
        """Straight through the deployment manager; `onto` is the snapshot that is named as the previous one."""
        job, name = row
        self.syncer(job)
        about = self.world["jobs"][job]
        previous = {"nothing": None, "current": about["pod"]["current"], "another": "another-snapshot"}[onto]
        if about["rows"][name]["kind"] == "INFERENCE_LORA":
            previous = None  # an adapter with metadata kills the replica (FAILURES E12)
        metadata = {
            "previous_snapshot_identity": previous,
            "compression_format": "arc_v2",
            "checksum_format": "alder32",
        }
        worked = self.stage.deployments.hotload_and_wait(
            job, NAME, name, incremental_snapshot_metadata=metadata if previous else None
        )
        said = None if worked else self.stage.deployments.last_hotload_error_message
        self.loaded(job, name, previous, said, broken=False)

    @precondition(lambda self: self.syncers)
    @rule(job=st.runner().flatmap(lambda self: st.sampled_from(sorted(self.syncers))))
    def reset_the_chain(self, job: str) -> None:
        """Do what the user does after a failed load."""
        self.syncers[job].reset_delta_chain()
        self.world["jobs"][job]["live"]["syncer"].update(saved=False, base=None)

    def loadable_rows(self, kind: str = "") -> list[Row]:
        """Rows of running jobs, of one kind or of any."""
        running = {job: self.world["jobs"][job]["rows"] for job in self.jobs_in("running")}
        listed = [(job, name) for job, name in self.rows if name in running.get(job, ())]
        return [(job, name) for job, name in listed if kind in ("", running[job][name]["kind"])]

    def loaded(self, job: str, name: str, previous: str | None, said: str | None, *, broken: bool) -> None:
        """The replica took the snapshot, or serves what it served and says which one it refused."""
        about = self.world["jobs"][job]
        predicted = model.predict_hot_load(about["pod"], about["rows"][name], previous)
        status = self.stage.deployments.hotload_check_status(job, NAME)["replicas"][0]
        if about["pod"]["current"] == name and (broken or predicted is not None):
            said = said or "the client was content, for the replica serves that very snapshot"
        if broken or predicted is not None:
            assert said is not None, (
                f"loading {name} with previous {previous} must fail: {predicted or 'it was broken'}"
            )
            assert status["loading_state"]["stage"] == "error"
            assert status["loading_state"]["target_snapshot_identity"] == name
            reason = self.pod(job).message
            assert broken or all(words in reason for words in predicted or ()), f"{predicted} not in {reason!r}"
        else:
            assert said is None, f"loading {name} with previous {previous} must succeed, but: {said}"
            model.hot_load(about["pod"], name, about["rows"][name])
        assert status["current_snapshot_identity"] == about["pod"]["current"]
        self.check_replica(job)

    def check_replica(self, job: str) -> None:
        """A replica's weights are a base, or were reached from one by unbroken deltas."""
        pod = self.world["jobs"][job]["pod"]
        replica = self.stage.emulator.platform.replicas.of_pod(self.deployment(job), self.pod(job))
        assert replica.fingerprint() == files.served(pod["weights"], pod["adapter"])

    def deployment(self, job: str) -> Any:
        return self.stage.emulator.platform.deployments.get(self.stage.account, job)

    def pod(self, job: str) -> Any:
        return self.deployment(job).pods[0]

    def syncer(self, job: str) -> Any:
        client, _ = self.client(job)
        about = self.world["jobs"][job]
        if job not in self.syncers:
            self.syncers[job] = self.stage.syncer(job, client, about["rank"])
            about["pod"] = about["pod"] or {"current": None, "weights": _base_digest(), "adapter": None}
        return self.syncers[job]

    @precondition(lambda self: self.rows and not self.restarted)
    @rule()
    def restart_the_emulator(self) -> None:
        super().restart_the_emulator()
        for job, about in self.world["jobs"].items():
            if about["pod"] is not None:
                self.check_replica(job)


def _base_digest() -> str:
    from ftsim.compute.sampler.weights import fingerprint

    return fingerprint(tiny_model())
