"""The models that completions may name, as OpenAI's library lists them."""

from collections.abc import Iterator

import pytest

from ftsim.tools.coverage.stage import BASE, Stage, opened


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with opened() as stage:
        yield stage


def test_base_models_and_the_accounts_own_are_listed_and_each_can_be_asked(stage: Stage) -> None:
    listed = stage.clients.http.get("/inference/v1/models").json()
    names = [one["id"] for one in listed["data"]]
    own = f"accounts/{stage.clients.account}/models/adapter"
    assert listed["object"] == "list"
    assert {BASE, own} <= set(names)
    assert len(names) == len(set(names))
    for name in (BASE, own):
        shown = stage.clients.http.get(f"/inference/v1/models/{name}").json()
        assert (shown["id"], shown["object"]) == (name, "model")
        sent = {"model": name, "prompt": "Hi", "max_tokens": 1}
        assert stage.clients.http.post("/inference/v1/completions", json=sent).status_code == 200
    missing = stage.clients.http.get("/inference/v1/models/accounts/fireworks/models/nothing-of-the-kind")
    assert missing.status_code == 404


def test_openais_library_lists_them(stage: Stage) -> None:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(api_key=stage.clients.key, base_url=f"{stage.clients.url}/inference/v1") as client:
        assert BASE in [one.id for one in client.models.list()]
        assert client.models.retrieve(BASE).owned_by == "fireworks"
