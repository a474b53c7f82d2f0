"""A program that trains, saves, and waits after every save, as clients of a remote service do.

    waiting_program.py SAVES SECONDS

Its last line is JSON: the seconds that its own clock says it took, and what the emulator's journal holds.
"""

import json
import os
import sys
import time
from typing import Any

import httpx
from fireworks.training.sdk import FiretitanServiceClient, TrainerJobConfig, TrainerJobManager

from ftsim.testing.clients import take_step

BASE = "accounts/fireworks/models/qwen3-8b"
JOB = "waiting"


def main(saves: int, seconds: float) -> None:
    began = time.monotonic()
    key, url = os.environ["FIREWORKS_API_KEY"], os.environ["FIREWORKS_BASE_URL"]
    with TrainerJobManager(api_key=key, base_url=url) as manager:
        endpoint = manager.create_and_wait(TrainerJobConfig(base_model=BASE, lora_rank=4, requested_job_id=JOB))
        service = FiretitanServiceClient(base_url=endpoint.base_url, api_key=key)
        client = service.create_training_client(base_model=BASE, lora_rank=4)
        for number in range(saves):
            take_step(client, number)
            client.save_state(f"step-{number}").result()
            time.sleep(seconds)
        service.close()
        manager.delete(JOB)
    print(json.dumps({"seconds": time.monotonic() - began, "journal": journal(url, key)}))


def journal(url: str, key: str) -> list[Any]:
    """Requests, oldest first; of looks at one that is not ready, the last.

    Heartbeats come last: a thread of its own sends them, so that two at one moment may come in either order.
    """
    with httpx.Client(trust_env=False, headers={"X-Api-Key": key}) as client:
        found = client.get(f"{url}/_ftsim/journal", params={"limit": 10_000}).json()["exchanges"]
    asked = [[one["endpoint"], one["status"]] for one in sorted(found, key=lambda one: one["began"])]
    beats = [one for one in asked if one[0] == "session_heartbeat"]
    rest = [one for one in asked if one[0] != "session_heartbeat"]
    return [one for one, after in zip(rest, [*rest[1:], None], strict=True) if one != after] + beats


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
