"""Two jobs that train at once: two programs with a client each, against the same programs one after the other."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from ftsim.process.attendance import Attendance
from ftsim.process.run import default_server_command, join_server
from ftsim.tools.bench.measure import Result
from ftsim.tools.bench.stand import Stand, end
from ftsim.tools.bench.workload import BASE_MODEL

STEPS = 30
WARM_UP = 5
ROUNDS = 5


def two_jobs(stand: Stand) -> Iterator[Result]:
    """The time of two jobs one after the other over that of both at once, their trainers in a worker each."""
    workers, shared = _measured(stand, workers=2), _measured(stand, workers=0)
    parts = {
        "after_each_other_ms": workers[0],
        "at_once_ms": workers[1],
        "at_once_in_one_process_ms": shared[1],
        "in_one_process_x": shared[0] / shared[1],
    }
    yield Result("two_jobs", workers[0] / workers[1], "x", 1.3, more_is_better=True, parts=parts)


def _measured(stand: Stand, workers: int) -> tuple[float, float]:
    """Median milliseconds of both jobs one after the other, and at once."""
    state = stand.folder / f"jobs-{workers}"
    command = [*default_server_command(state.resolve()), "--trainer-workers", str(workers)]
    record, client = join_server(Attendance(state), command)
    programs = [
        subprocess.Popen(
            [sys.executable, "-m", "ftsim.tools.bench.jobs", record.url, record.api_key, f"job-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        for program in programs:
            _wait(program)
        times = [(_timed(programs[:1]) + _timed(programs[1:]), _timed(programs)) for _ in range(ROUNDS)]
    finally:
        for program in programs:
            program.communicate()
        client.leave()
        end(record.pid, state)
    return statistics.median(one for one, _ in times), statistics.median(both for _, both in times)


def _timed(programs: "list[subprocess.Popen[str]]") -> float:
    began = time.perf_counter()
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("go\n")
        program.stdin.flush()
    for program in programs:
        _wait(program)
    return (time.perf_counter() - began) * 1e3


def _wait(program: "subprocess.Popen[str]") -> None:
    assert program.stdout is not None
    if not program.stdout.readline():
        raise RuntimeError(f"a training program ended with status {program.wait()}")


def train(url: str, key: str, job: str) -> None:
    """Be one of the programs: take steps whenever a line comes, and say when they are done."""
    import contextlib

    from fireworks.training.sdk import FiretitanServiceClient, TrainerJobConfig, TrainerJobManager

    steps = Stand()
    with contextlib.closing(TrainerJobManager(api_key=key, base_url=url)) as manager:
        endpoint = manager.create_and_wait(TrainerJobConfig(base_model=BASE_MODEL, requested_job_id=job))
        with contextlib.closing(FiretitanServiceClient(base_url=endpoint.base_url, api_key=key)) as service:
            client = service.create_training_client(base_model=BASE_MODEL)
            for _ in range(WARM_UP):
                steps.step(client)
            print("ready", flush=True)
            for _ in sys.stdin:
                for _ in range(STEPS):
                    steps.step(client)
                print("done", flush=True)


if __name__ == "__main__":
    train(*sys.argv[1:])
