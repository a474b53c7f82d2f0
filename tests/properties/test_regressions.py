"""Histories in which the state machines have found a fault."""

from tests.properties.machines.hotload import HotLoadMachine


def test_a_replica_survives_a_restart_after_the_retention_of_its_snapshot() -> None:
    machine = HotLoadMachine()
    machine.create_first_jobs(ranks=(2, 0))
    machine.optim_step(job="lora-0", number=0)
    machine.save_and_hotload(job="lora-0", fails=False)
    machine.delete_job(job="lora-0")
    machine.time_passes(days=31)
    machine.rows_are_those_of_the_model()
    machine.restarted = False
    machine.restart_the_emulator()
    machine.teardown()


def test_a_replica_survives_a_restart_after_its_snapshot_was_saved_again() -> None:
    machine = HotLoadMachine()
    machine.create_first_jobs(ranks=(0,))
    machine.save_sampler(job="full-0", again=True, how="base", batches=0)
    machine.hot_load_any_row(row=machine.rows[-1], onto="nothing")
    machine.optim_step(job="full-0", number=0)
    machine.save_sampler(job="full-0", again=True, how="delta", batches=0)
    machine.restart_the_emulator()
    machine.teardown()


def test_blobs_go_when_the_last_replica_lets_go() -> None:
    machine = HotLoadMachine()
    machine.create_first_jobs(ranks=(0, 0))
    machine.save_and_hotload(job="full-0", fails=False)
    blob = machine.stage.blob(machine.stage.row(*machine.rows[-1]))
    machine.delete_job(job="full-0")
    machine.time_passes(days=31)
    machine.rows_are_those_of_the_model()
    assert blob.is_dir()
    machine.stage.deployments.delete("full-0")
    assert not blob.exists()
    machine.teardown()
