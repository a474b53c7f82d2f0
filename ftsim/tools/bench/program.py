"""A program that measures what people wait for: `python program.py NAME [--profile]`.

It is run by file, with the wheel of one commit and of another, so it imports nothing of the bench and uses only what
every version has. It prints one line of JSON: pairs of wall and CPU milliseconds, or one number where NAME is a ratio.
"""

import contextlib
import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BASE = "accounts/fireworks/models/qwen3-8b"
Times = list[list[float]]
LIFE = """
import time
from fireworks.training.sdk import FiretitanServiceClient, TrainerJobConfig, TrainerJobManager, types
import pytest

def batch():
    tokens = list(range(5, 21))
    inputs = {
        "target_tokens": types.TensorData(data=tokens[1:], dtype="int64", shape=[15]),
        "weights": types.TensorData(data=[1.0] * 15, dtype="float32", shape=[15]),
    }
    return [types.Datum(model_input=types.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs)]

@pytest.mark.parametrize("number", range(20))
def test_life(fireworks_env, number):
    key, url, base = fireworks_env["FIREWORKS_API_KEY"], fireworks_env["FIREWORKS_BASE_URL"], "@base"
    manager = TrainerJobManager(api_key=key, base_url=url)
    job = manager.create_and_wait(TrainerJobConfig(base_model=base, lora_rank=4, requested_job_id="job"))
    service = FiretitanServiceClient(base_url=job.base_url, api_key=key)
    client = service.create_training_client(base_model=base, lora_rank=4)
    for _ in range(2):
        gradient = client.forward_backward(batch(), "cross_entropy")
        step = client.optim_step(types.AdamParams(learning_rate=1e-3))
        gradient.result(), step.result()
    client.save_state("step-2").result()
    client.save_weights_for_sampler_ext("step-2", checkpoint_type="base")
    row = [row for row in manager.list_checkpoints("job") if row.get("promotable")][-1]
    manager.promote_checkpoint(name=row["name"], output_model_id="made", base_model=base)
    service.close()
    manager.close()
""".replace("@base", BASE)
SFT = f"""
import sys
from training.recipes.sft_loop import Config, main
main(Config(log_path=sys.argv[1], base_model="{BASE}", dataset="data.jsonl", tokenizer_model="Qwen/Qwen3-8B",
            lora_rank=8, epochs=1, batch_size=4))
"""


def timed(work: Callable[[], object], count: int, warm_up: int = 2) -> Times:
    """[wall, CPU of all threads] of each call, in milliseconds."""
    times = []
    for number in range(warm_up + count):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        if number >= warm_up:
            times.append([(time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3])
    return times


def command(words: list[str], folder: Path, env: dict[str, str] | None = None) -> list[float]:
    """[wall, CPU] of a whole process and of those it waited for, in milliseconds."""
    before, wall = os.times(), time.perf_counter()
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return [(time.perf_counter() - wall) * 1e3, cpu * 1e3]


class Client:
    """An emulator with real models, and the vendor's clients on it."""

    def __init__(self) -> None:
        import ftsim

        self.emulator = ftsim.Emulator().start()
        os.environ.update(self.emulator.env())
        from fireworks.training.sdk import TrainerJobManager

        self.manager = TrainerJobManager(api_key=self.emulator.api_key, base_url=self.emulator.url)
        self.count = 0

    def lora(self, rank: int = 4) -> Any:
        """A training client on a new job."""
        from fireworks.training.sdk import FiretitanServiceClient, TrainerJobConfig

        self.count += 1
        job_id = f"job-{self.count}"
        config = TrainerJobConfig(base_model=BASE, lora_rank=rank, requested_job_id=job_id)
        job = self.manager.create_and_wait(config)
        service = FiretitanServiceClient(base_url=job.base_url, api_key=self.emulator.api_key)
        return service.create_training_client(base_model=BASE, lora_rank=rank)

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the newest job."""
        return list(self.manager.list_checkpoints(f"job-{self.count}"))


def step(client: Any) -> None:
    from fireworks.training.sdk import types

    tokens = list(range(5, 22))
    inputs = {
        "target_tokens": types.TensorData(data=tokens[1:], dtype="int64", shape=[16]),
        "weights": types.TensorData(data=[1.0] * 16, dtype="float32", shape=[16]),
    }
    datum = types.Datum(model_input=types.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs)
    gradient = client.forward_backward([datum], "cross_entropy")
    moved = client.optim_step(types.AdamParams(learning_rate=1e-3))
    gradient.result()
    moved.result()


def lifecycle_test() -> Times:
    """Twenty LoRA tests with the fixture in one pytest; each but the first."""
    import pytest

    times: Times = []

    class Watch:
        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_protocol(self) -> Iterator[None]:
            wall, cpu = time.perf_counter(), time.process_time()
            result = yield
            times.append([(time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3])
            return result

    with _test_folder() as folder, contextlib.redirect_stdout(sys.stderr):
        if pytest.main([*_words(folder), str(folder / "test_life.py")], plugins=[Watch()]):
            raise RuntimeError("a test failed")
    return times[1:]


def twenty_tests() -> Times:
    """The same twenty tests, the whole process."""
    with _test_folder() as folder:
        return [command([sys.executable, "-m", "pytest", *_words(folder), "test_life.py"], folder)]


def cold_run() -> Times:
    """`ftsim run` of a supervised run of ten steps on an empty state folder; the server's CPU is not counted."""
    with _run_folder() as (folder, env):
        return [command([sys.executable, "-m", "ftsim", "run", "train.py", "first"], folder, env)]


def warm_run() -> Times:
    """The same for a second program, while the server of the first still runs."""
    with _run_folder() as (folder, env):
        command([sys.executable, "-m", "ftsim", "run", "train.py", "first"], folder, env)
        return [command([sys.executable, "-m", "ftsim", "run", "train.py", "second"], folder, env)]


@contextlib.contextmanager
def _run_folder() -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder with a program and its data, and its environment; at the end the server has left."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "train.py").write_text(SFT)
        row = {"messages": [{"role": "user", "content": "Say A."}, {"role": "assistant", "content": "A"}]}
        (folder / "data.jsonl").write_text((json.dumps(row) + "\n") * 40)
        yield folder, os.environ | {"FTSIM_STATE_DIR": str(folder / "state")}
        until = time.monotonic() + 60
        while (folder / "state" / "server.json").exists() and time.monotonic() < until:
            time.sleep(0.1)  # the server goes a moment after its last program


def create_lora() -> Times:
    client = Client()
    return timed(client.lora, 10)


def promote() -> Times:
    client = Client()
    trained = client.lora()
    step(trained)
    trained.save_weights_for_sampler_ext("step-1", checkpoint_type="base")
    (row,) = [row for row in client.rows() if row.get("promotable")]
    names = iter(f"made-{number}" for number in range(100))
    return timed(
        lambda: client.manager.promote_checkpoint(name=row["name"], output_model_id=next(names), base_model=BASE), 10
    )


def step_1x16() -> Times:
    client = Client().lora()
    return timed(lambda: step(client), 40, warm_up=5)


def load_with_optimizer() -> Times:
    client = Client().lora()
    step(client)
    client.save_state("step-1").result()
    return timed(lambda: client.load_state_with_optimizer("step-1").result(), 20)


def one_token() -> Times:
    """A seeded completion of one token, again and again on one connection."""
    import httpx

    emulator = Client().emulator
    body = {"model": BASE, "prompt": [5, 6, 7], "max_tokens": 1, "seed": 3, "temperature": 1.0}
    with httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}, timeout=60) as http:
        return timed(lambda: http.post("/inference/v1/completions", json=body).raise_for_status(), 40, warm_up=5)


def list_slope() -> float:
    """The exponent by which the time of a whole list grows from 1,000 to 30,000 rows; 1 is proportional."""
    client = Client()
    client.lora().save_weights_for_sampler_ext("step-0", checkpoint_type="base")
    taken = []
    for count in (1_000, 30_000):
        _fill(client.emulator, count)
        taken.append(min(cpu for _, cpu in timed(client.rows, 3, warm_up=1)))
    return math.log(taken[1] / taken[0]) / math.log(30)


def _fill(emulator: Any, count: int) -> None:
    """Copies of the one checkpoint there is, until there are so many."""
    table = emulator.world.checkpoints
    first = min(table, key=lambda row: row.created)
    with emulator.world.change():
        for number in range(len(table), count):
            made = first.created + 1_000_000 * number
            table.put(dataclasses.replace(first, id=f"row-{number}", created=made, updated=made))


def start_full_folder() -> float:
    """Seconds that an emulator takes to start on a folder of 10,000 rows over those on an empty one."""
    import ftsim

    with tempfile.TemporaryDirectory() as name:
        full, empty = Path(name) / "full", Path(name) / "empty"
        with ftsim.Emulator(state_dir=full) as emulator:
            os.environ.update(emulator.env())
            client = Client.__new__(Client)
            from fireworks.training.sdk import TrainerJobManager

            client.emulator, client.count = emulator, 0
            client.manager = TrainerJobManager(api_key=emulator.api_key, base_url=emulator.url)
            client.lora().save_weights_for_sampler_ext("step-0", checkpoint_type="base")
            _fill(emulator, 10_000)

        def start(folder: Path) -> float:
            began = time.process_time()
            emulator = ftsim.Emulator(state_dir=folder).start()
            taken = time.process_time() - began
            emulator.stop()
            return taken

        pairs = [(start(full), start(empty)) for _ in range(6)][1:]
        return statistics.median(one for one, _ in pairs) / statistics.median(other for _, other in pairs)


def _words(folder: Path) -> list[str]:
    """The options of pytest; with a folder of its own it removes nothing that other runs have left."""
    ignored = ["-p", "no:cacheprovider", "-p", "no:schemathesis", "-W", "ignore"]
    return ["-q", *ignored, "--basetemp", str(folder / "temporary")]


@contextlib.contextmanager
def _test_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "test_life.py").write_text(LIFE)
        yield Path(name)


MEASURES: dict[str, Callable[[], Times | float]] = {
    one.__name__: one
    for one in (
        lifecycle_test,
        twenty_tests,
        cold_run,
        warm_run,
        one_token,
        promote,
        create_lora,
        step_1x16,
        load_with_optimizer,
        list_slope,
        start_full_folder,
    )
}


@contextlib.contextmanager
def profiled() -> Iterator[None]:
    """Look at every thread 200 times a second; print the functions in which something happened, most first."""
    seen, stop, own = Counter[str](), threading.Event(), threading.get_ident()

    def look() -> None:
        while not stop.wait(0.005):
            for thread, frame in sys._current_frames().items():
                busy = frame.f_code.co_name not in _WAITS and thread != threading.get_ident()
                functions = set()
                at = frame if busy else None
                while at is not None:
                    path = "/".join(at.f_code.co_filename.split("/")[-3:])
                    functions.add(f"{path}:{at.f_code.co_name}" + (" (the program)" if thread == own else ""))
                    at = at.f_back
                seen.update(functions)

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield
    finally:
        stop.set()
        watching.join()
        most = seen.most_common(1)[0][1] if seen else 1
        for name, count in seen.most_common(60):
            print(f"{100 * count / most:5.1f} %  {name}", file=sys.stderr)


_WAITS = {"wait", "select", "poll", "acquire", "_wait_for_tstate_lock", "get", "_worker", "accept", "join", "read"}


def main() -> None:
    warnings.simplefilter("ignore")
    with profiled() if "--profile" in sys.argv else contextlib.nullcontext():
        found = MEASURES[sys.argv[1]]()
    print(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # the older of two wheels may not end in order


if __name__ == "__main__":
    main()
