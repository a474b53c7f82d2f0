"""Counters and bills tell what was really prefilled, sampled and trained, and stand in a snapshot."""

from typing import Any

import httpx
import pytest
from fireworks.training.sdk.client import FiretitanServiceClient

from emulator.backend import Generation
from emulator.server import Emulator
from ftsim.testing.clients import take_step
from tests.doubles import BASE

SPAN = {"startTime": "2020-01-01T00:00:00Z", "endTime": "2100-01-01T00:00:00Z"}


def meters(http: httpx.Client, emu: Emulator, **query: str) -> dict[tuple[str, str], int]:
    items = http.get(f"/v1/accounts/{emu.account}/billing/summary", params={**SPAN, **query}).json()["lineItems"]
    assert {one["groupingValue"] for one in items} <= {BASE}
    return {(one["series"], one["secondaryGroupingValue"]): one["quantity"] for one in items}


def complete(http: httpx.Client, model: str, tokens: int, **more: Any) -> None:
    body = {"model": model, "prompt": [97] * 5, "max_tokens": tokens, "ignore_eos": True, **more}
    assert http.post("/inference/v1/completions", json=body).status_code == 200


def deploy(http: httpx.Client, emu: Emulator, name: str = "d1", **settings: Any) -> str:
    body = {"baseModel": BASE, "acceleratorType": "NVIDIA_H200_141GB", **settings}
    made = http.post(f"/v1/accounts/{emu.account}/deployments", params={"deploymentId": name}, json=body)
    assert made.status_code == 200, made.text
    return f"accounts/{emu.account}/deployments/{name}"


def test_tokens_are_counted_where_they_are_computed(emu: Emulator, http: httpx.Client) -> None:
    assert meters(http, emu) == {}
    place = deploy(http, emu)
    complete(http, place, 7)
    complete(http, place, 3, stream=True)
    complete(http, BASE, 2)
    assert meters(http, emu) == {
        ("DEDICATED_DEPLOYMENT", "prefilled"): 10,
        ("DEDICATED_DEPLOYMENT", "sampled"): 10,
        ("SERVERLESS", "prefilled"): 5,
        ("SERVERLESS", "sampled"): 2,
    }
    told = http.get(f"/v1/{place}:metrics", params={"timeRange": "3600s"}).json()["metrics"]
    assert told == {"replicas": 1, "requests": 2, "prefilled": 10, "cached": 0, "sampled": 10}


def test_what_is_trained_is_billed_to_its_job(emu: Emulator, http: httpx.Client, new_job: Any) -> None:
    new_job("j1")
    gateway = f"{emu.url}/training/v1/rlorTrainerJobs/{emu.account}/j1"
    service = FiretitanServiceClient(base_url=gateway, api_key=emu.api_key)
    client = service.create_training_client(base_model=BASE, lora_rank=0)
    emu.quirks.set("billing.train_usd", 4.0)
    take_step(client, 0)
    service.close()
    counted = meters(http, emu)
    assert list(counted) == [("TRAINING", "trained")]
    trained = counted["TRAINING", "trained"]
    assert trained > 0
    (row,) = http.get(f"/v1/accounts/{emu.account}/billingUsage", params=SPAN).json()["trainingCosts"]
    assert (row["jobId"], row["baseModel"], row["tokens"]) == ("j1", BASE, str(trained))
    for session, cost in (("j1", trained * 4000), ("another", 0)):
        body = {**SPAN, "filter": {"sessionId": session}, "groupBy": ["DAY", "MODEL"]}
        told = http.post(f"/v1/accounts/{emu.account}/usageCosts:query", json=body).json()
        assert told["subtotal"] == {"currencyCode": "USD", "units": "0", "nanos": cost}
        assert len(told["rows"]) == (cost > 0)


def test_money_is_counted_at_the_prices_of_the_switches(emu: Emulator, http: httpx.Client) -> None:
    emu.quirks.set("billing.sample_usd", 2_000_000.0)
    emu.quirks.set("billing.prefill_usd", 0.5)
    complete(http, BASE, 3)
    summary = http.get(f"/v1/accounts/{emu.account}/billing/summary", params=SPAN).json()
    costs = {one["secondaryGroupingValue"]: one["totalCost"] for one in summary["lineItems"]}
    assert costs["sampled"] == {"currencyCode": "USD", "units": "6", "nanos": 0}
    assert costs["prefilled"] == {"currencyCode": "USD", "units": "0", "nanos": 2500}
    assert "cached" not in costs
    emu.quirks.set("billing.cached_usd", 0.25)
    found = Generation([], "", "stop", metrics={"cached-prompt-tokens": 4})
    emu.platform.usages.generated(emu.account, "", BASE, 5, found)
    summary = http.get(f"/v1/accounts/{emu.account}/billing/summary", params=SPAN).json()
    costs = {one["secondaryGroupingValue"]: one["totalCost"] for one in summary["lineItems"]}
    assert costs["cached"] == {"currencyCode": "USD", "units": "0", "nanos": 1000}
    assert costs["prefilled"] == {"currencyCode": "USD", "units": "0", "nanos": 3000}


def test_a_day_is_a_bucket_and_a_time_is_cut_at_its_hours(emu: Emulator, http: httpx.Client) -> None:
    complete(http, BASE, 1)
    emu.clock.advance(24 * 3600)
    complete(http, BASE, 2)
    path = f"/v1/accounts/{emu.account}/billing/summary"
    summary = http.get(path, params={**SPAN, "startTime": "2026-01-01T00:00:00Z", "granularity": "DAILY"}).json()
    days = [one["lineItems"] for one in summary["usageBuckets"] if one["lineItems"]]
    assert [[item["quantity"] for item in day] for day in days] == [[5, 1], [5, 2]]
    assert [item["quantity"] for item in summary["lineItems"]] == [10, 3]
    assert meters(http, emu, endTime="2021-01-01T00:00:00Z") == {}


def test_counters_stand_in_a_snapshot_and_go_with_a_reset(emu: Emulator, http: httpx.Client) -> None:
    complete(http, BASE, 4)
    before = meters(http, emu)
    kept = http.get("/_ftsim/snapshot").content
    complete(http, BASE, 4)
    assert meters(http, emu) != before
    http.put("/_ftsim/snapshot", content=kept)
    assert meters(http, emu) == before
    emu.reset()
    assert meters(http, emu) == {}


@pytest.mark.parametrize(
    ("path", "query", "said"),
    [
        ("billing/summary", {}, "startTime is required"),
        ("billing/summary", {**SPAN, "endTime": "yesterday"}, "give RFC 3339"),
        ("billing/summary", {**SPAN, "granularity": "HOURLY"}, "use DAILY"),
        ("billing/summary", {**SPAN, "endTime": "2019-01-01T00:00:00Z"}, "must be after startTime"),
        ("billingUsage", {**SPAN, "usageType": "FREE"}, "SERVERLESS, DEDICATED_DEPLOYMENT, TRAINING"),
    ],
)
def test_what_cannot_be_told_is_refused(
    emu: Emulator, http: httpx.Client, path: str, query: dict[str, str], said: str
) -> None:
    answer = http.get(f"/v1/accounts/{emu.account}/{path}", params=query)
    assert (answer.status_code, said in answer.text) == (400, True)


def test_costs_by_user_are_refused(emu: Emulator, http: httpx.Client) -> None:
    for more in ({"groupBy": ["USER"]}, {"filter": {"user": "me"}}):
        answer = http.post(f"/v1/accounts/{emu.account}/usageCosts:query", json={**SPAN, **more})
        assert (answer.status_code, "one user and one key" in answer.text) == (400, True)
