"""Small recipes over plain HTTP, run as `programs.py careful|naive|...`: 8 steps, a save every second one.

`careful` does everything right; so do `listing`, which has no file of its own and comes back to the newest row of the
job's list, and `often`, which saves after each step and once more for sampling. `skips` leaves out the batch after the
one it came back to; `twice` trains the last batch before a save again when it comes back; `weights` comes
back without the optimizer's state; `anew` uses a new job each time and deletes the old one; `naive` begins anew after a
crash with what it had saved, but from its first row; `leaky` never deletes its trainer and makes another at each start;
`hasty` promotes the first row it finds.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx

BASE = "accounts/fireworks/models/qwen3-8b"
STEPS = 8
HTTP = httpx.Client(
    base_url=os.environ["FIREWORKS_BASE_URL"], headers={"X-Api-Key": os.environ["FIREWORKS_API_KEY"]}, timeout=30
)


def ask(method: str, path: str, **options: Any) -> Any:
    """Repeat what got no answer, or a 429 or 503."""
    for _ in range(50):
        try:
            answer = HTTP.request(method, path, **options)
        except httpx.TransportError:
            time.sleep(0.01)
            continue
        if answer.status_code not in (429, 503):
            return answer
        time.sleep(0.01)
    raise SystemExit("no answer")


class Trainer:
    def __init__(self, job: str) -> None:
        self.job, self.seq = job, 0
        self.path = f"/v1/accounts/local/rlorTrainerJobs/{job}"
        body: dict[str, Any] = {"trainingConfig": {"baseModel": BASE}}
        made = ask("POST", self.path.rsplit("/", 1)[0], params={"rlorTrainerJobId": job}, json=body)
        if made.status_code == 409 and ask("GET", self.path).json()["state"] != "JOB_STATE_RUNNING":
            ask("POST", f"{self.path}:resume")
        self.base = f"/training/v1/rlorTrainerJobs/local/{job}/api/v1/"
        session = self.post("create_session", {"tags": []})["session_id"]
        body = {"session_id": session, "model_seq_id": 0, "base_model": BASE}
        self.model = self.result(self.post("create_model", body))["model_id"]

    def post(self, verb: str, body: dict[str, Any]) -> Any:
        answer = ask("POST", self.base + verb, json=body)
        if answer.status_code != 200:
            raise SystemExit(f"{verb}: {answer.text}")
        return answer.json()

    def result(self, accepted: Any) -> Any:
        while (found := self.post("retrieve_future", {"request_id": accepted["request_id"]})).get(
            "type"
        ) == "try_again":
            pass
        if "error" in found:
            raise SystemExit(found["error"])
        return found

    def run(self, verb: str, **body: Any) -> Any:
        self.seq += 1
        return self.result(self.post(verb, {"model_id": self.model, "seq_id": self.seq, **body}))

    def step(self, number: int) -> None:
        inputs = {"target_tokens": {"data": [number, number + 1], "dtype": "int64"}}
        data = [{"model_input": {"chunks": [{"tokens": [number, number + 1]}]}, "loss_fn_inputs": inputs}]
        self.run("forward_backward", forward_backward_input={"data": data, "loss_fn": "cross_entropy"})
        self.run("optim_step", adam_params={"learning_rate": 0.1})
        time.sleep(0.02)

    def newest(self) -> int:
        """The step of the newest row to come back to, 0 when there is none."""
        names = [row["name"].rsplit("/", 1)[1] for row in self.rows()]
        return max((int(name[1:]) for name in names if name[0] == "s" and name[1:].isdigit()), default=0)

    def rows(self) -> list[Any]:
        return list(ask("GET", f"{self.path}/checkpoints").json()["checkpoints"])

    def promote(self, row: str) -> None:
        body = {
            "output_model": "accounts/local/models/out",
            "base_model": BASE,
            "trainer_job_id": self.path.removeprefix("/v1/"),
        }
        answer = ask("POST", f"/v1/accounts/local/checkpoints/{row}:promote", json=body)
        if answer.status_code not in (200, 409):
            raise SystemExit(answer.text)


def main(kind: str) -> None:
    cursor = Path("cursor.json")
    if kind == "anew" and cursor.with_name("job").exists():
        ask("DELETE", f"/v1/accounts/local/rlorTrainerJobs/{cursor.with_name('job').read_text()}")
    fresh = kind in ("leaky", "anew")
    trainer = Trainer(f"job-{os.getpid()}" if fresh else "job")
    cursor.with_name("job").write_text(trainer.job)
    done = json.loads(cursor.read_text()) if cursor.exists() and not fresh else 0
    if kind == "listing":
        done = trainer.newest()
    if done:
        trainer.run("load_weights", path=f"s{done}", optimizer=kind != "weights")
        done += {"twice": -1, "skips": 1}.get(kind, 0)
    saved = {row["name"].rsplit("/", 1)[1] for row in trainer.rows()}
    for number in range(0 if kind == "naive" else done, STEPS):
        trainer.step(number)
        name = f"s{number + 1}"
        if (number % 2 or kind == "often") and name not in saved:
            trainer.run("save_weights", path=name, overwrite=False)
            if kind in ("hasty", "often"):
                trainer.run("save_weights_for_sampler", path=f"w{number + 1}-{os.getpid()}", checkpoint_type="base")
            aside = cursor.with_suffix(".new")
            aside.write_text(json.dumps(number + 1))
            aside.replace(cursor)
    if kind == "naive":
        trainer.run("save_weights", path=f"end-{os.getpid()}", overwrite=False)
    name = f"final-{os.getpid()}"
    trainer.run("save_weights_for_sampler", path=name, checkpoint_type="base")
    rows = [row["name"].rsplit("/", 1)[1] for row in trainer.rows() if row["promotable"]]
    trainer.promote(rows[0] if kind == "hasty" and cursor.with_name("restarted").exists() else name)
    if kind != "leaky":
        ask("DELETE", trainer.path)


if __name__ == "__main__":
    started = Path("started")
    if started.exists():
        Path("restarted").touch()
    started.touch()
    main(sys.argv[1])
