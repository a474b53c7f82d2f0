"""Weights that clients of tinker take away: as they are, sealed by age, and as an archive."""

import io
import json
import tarfile
from pathlib import Path

import httpx
import pyrage
import pytest

from emulator.platform.trainers import external
from tests.doubles import BASE
from tests.http.tinker.test_service import Client, client, http

__all__ = ["client", "http"]
FILES = ["adapter_config.json", "adapter_model.safetensors"]


def urls(client: Client, name: str) -> dict[str, str]:
    found = client.get(f"training_runs/{client.model}/checkpoints/external_weights/{name}/external_weights_urls")
    assert found["expires"].endswith("+00:00")
    return dict(found["urls"])


def fetched(url: str) -> bytes:
    """The bytes that anybody gets who has the link."""
    return httpx.get(url).raise_for_status().content


def failure(client: Client, verb: str, **body: object) -> str:
    client.seq += 1
    return str(client.done(verb, model_id=client.model, seq_id=client.seq, **body)["error"])


def test_an_adapter_is_taken_away_without_a_key(client: Client) -> None:
    client.step()
    saved = client.next("save_weights_external", path="out", ttl_seconds=7200)
    assert saved["path"] == f"tinker://{client.model}/external_weights/out"
    found = {name: fetched(url) for name, url in urls(client, "out").items()}
    assert sorted(found) == FILES
    assert saved["size_bytes"] == sum(map(len, found.values()))
    assert json.loads(found[FILES[0]])["r"] == 8
    (row,) = client.get(f"training_runs/{client.model}/checkpoints")["checkpoints"]
    assert (row["checkpoint_type"], row["checkpoint_id"]) == ("external", "external_weights/out")
    assert row["expires_at"]


def test_a_link_is_good_for_its_own_file_alone(client: Client) -> None:
    client.next("save_weights_external", path="out")
    one, other = (urls(client, "out")[name] for name in FILES)
    assert httpx.get(one.partition("?")[0] + "?" + other.partition("?")[2]).status_code == 403
    assert httpx.get(one.partition("?")[0]).status_code == 401
    assert httpx.delete(one).status_code == 400


def test_files_are_sealed_for_those_who_were_named(client: Client, tmp_path: Path) -> None:
    client.step()
    identity, stranger = (pyrage.x25519.Identity.generate() for _ in range(2))
    client.next("save_weights_external", path="plain")
    client.next("save_weights_external", path="out", age_encryption_recipients=[str(identity.to_public())])
    found = urls(client, "out")
    assert sorted(found) == [f"{name}.age" for name in FILES]
    plain = urls(client, "plain")
    for name in FILES:
        sealed = fetched(found[f"{name}.age"])
        if name != FILES[0]:  # which names its own row
            assert pyrage.decrypt(sealed, [identity]) == fetched(plain[name])
        with pytest.raises(pyrage.DecryptError):
            pyrage.decrypt(sealed, [stranger])


def test_a_sealed_save_is_neither_promoted_nor_sampled(client: Client) -> None:
    identity = pyrage.x25519.Identity.generate()
    client.next("save_weights_external", path="out", age_encryption_recipients=[str(identity.to_public())])
    session = f"accounts/local/trainingSessions/{client.session}"
    (row,) = client.http.get(f"/v1/{session}/checkpoints").json()["trainingSessionCheckpoints"]
    promote = f"/v1/{row['name']}:promote"
    refused = client.http.post(promote, json={"outputModel": "accounts/local/models/sealed", "baseModel": BASE})
    assert refused.status_code == 400, refused.text
    assert "sealed for age recipients" in refused.text
    path = f"tinker://{client.model}/external_weights/out"
    opened = client.post(
        "create_sampling_session", session_id=client.session, sampling_session_seq_id=9, model_path=path
    )["sampling_session_id"]
    prompt = {"chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}]}
    answer = client.done("asample", sampling_session_id=opened, prompt=prompt, sampling_params={"max_tokens": 1})
    assert "taken away" in answer["error"]


@pytest.mark.parametrize("recipients", [["age1nobody"], ["x"] * 11])
def test_recipients_that_cannot_be_read_are_refused(client: Client, recipients: list[str]) -> None:
    assert "age_encryption_recipients" in failure(
        client, "save_weights_external", path="out", age_encryption_recipients=recipients
    )
    assert client.get(f"training_runs/{client.model}/checkpoints")["checkpoints"] == []


def test_without_age_a_sentence_says_what_to_install(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyrage", None)
    key = "age16dkjckcx2xkkgus7nx0y4r7uf0nmu5m0v890h8lfwt77glt7tvjqqt8jml"
    said = failure(client, "save_weights_external", path="out", age_encryption_recipients=[key])
    assert "pip install 'ftsim-emulator[tinker]'" in said


def test_an_adapter_comes_in_one_archive(client: Client) -> None:
    client.next("save_weights_for_sampler", path="half")
    client.next("save_weights", path="half")
    place = f"/tinker/api/v1/training_runs/{client.model}/checkpoints/sampler_weights/half/archive"
    sent_on = client.http.get(place)
    assert sent_on.status_code == 302
    assert "Expires" in sent_on.headers
    with tarfile.open(fileobj=io.BytesIO(fetched(sent_on.headers["Location"]))) as archive:
        assert archive.getnames() == [*FILES, "checkpoint_complete"]
    refused = client.http.get(place.replace("sampler_weights", "weights"))
    assert (refused.status_code, "is a training state" in refused.text) == (400, True)


def test_what_was_not_saved_to_be_taken_away_has_no_links(client: Client) -> None:
    client.next("save_weights_for_sampler", path="half")
    place = f"/tinker/api/v1/training_runs/{client.model}/checkpoints/sampler_weights/half/external_weights_urls"
    refused = client.http.get(place)
    assert (refused.status_code, "save_weights_external" in refused.text) == (400, True)
    assert external.ARCHIVE not in refused.text
