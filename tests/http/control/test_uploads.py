"""Models are uploaded behind signed links, validated, and refused by name where a folder is none."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fireworks
import httpx
import pytest
from fireworks import Fireworks

from emulator.server import Emulator
from tests.doubles import BASE, DictBackend, write_adapter, write_base

PEFT = {"base_model": BASE, "r": 8, "target_modules": ["q_proj"]}
ON_RANK_4: dict[str, Any] = {**PEFT, "r": 4}


def client_of(emu: Emulator) -> Fireworks:
    return Fireworks(api_key=emu.api_key, base_url=emu.url, account_id=emu.account, max_retries=0)


@pytest.fixture
def client(emu: Emulator) -> Iterator[Fireworks]:
    with client_of(emu) as client:
        yield client


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def put(client: Fireworks, model: str, files: Mapping[str, bytes]) -> None:
    """Upload files as the vendor's command line does."""
    sizes = {name: str(len(content)) for name, content in files.items()}
    links = client.models.get_upload_endpoint(model, filename_to_size=sizes).filename_to_signed_urls or {}
    assert links.keys() == files.keys()
    for name, link in links.items():
        answer = httpx.put(link, content=files[name], headers={"content-type": "application/octet-stream"})
        assert answer.status_code == 200, answer.text


def upload(client: Fireworks, model: str, files: Mapping[str, bytes], **facts: Any) -> list[str]:
    client.models.create(model_id=model, model={"kind": "HF_BASE_MODEL", **facts})
    put(client, model, files)
    return client.models.validate_upload(model, config_only=True).warnings or []


def test_a_base_model_is_uploaded_served_downloaded_and_deleted(
    emu: Emulator, client: Fireworks, http: httpx.Client, tmp_path: Path
) -> None:
    files = files_of(write_base(tmp_path / "base")) | {"chat_templates/mine.jinja": b"{{ messages }}"}
    made = client.models.create(model_id="mine", model={"kind": "HF_BASE_MODEL", "display_name": "my base"})
    assert (made.state, made.kind, made.display_name) == ("UPLOADING", "HF_BASE_MODEL", "my base")
    name = f"accounts/{emu.account}/models/mine"
    uses = (
        ("/inference/v1/completions", {"model": name, "prompt": [1], "max_tokens": 1}),
        (f"/v1/accounts/{emu.account}/rlorTrainerJobs", {"trainingConfig": {"baseModel": name}}),
    )
    assert ["is UPLOADING" in http.post(url, json=body).text for url, body in uses] == [True, True]
    with pytest.raises(fireworks.BadRequestError, match="is being uploaded"):
        client.models.get_download_endpoint("mine")
    put(client, "mine", files)
    assert client.models.validate_upload("mine", config_only=True).warnings == []
    ready = client.models.get("mine")
    assert (ready.state, ready.tunable, ready.context_length) == ("READY", True, 4096)
    assert [http.post(url, json=body).status_code for url, body in uses] == [200, 200]
    links = client.models.get_download_endpoint("mine").filename_to_signed_urls or {}
    assert {file: httpx.get(link).content for file, link in links.items()} == files
    assert client.models.validate_upload("mine").warnings == [], "a second look finds it READY"
    client.models.delete("mine")
    with pytest.raises(fireworks.NotFoundError):
        client.models.get("mine")
    assert not emu.world.models
    upload(client, "mine", files)


def test_what_is_put_is_what_was_announced(client: Fireworks, tmp_path: Path) -> None:
    files = files_of(write_base(tmp_path / "base"))
    client.models.create(model_id="mine", model={"kind": "HF_BASE_MODEL"})
    with pytest.raises(fireworks.BadRequestError, match="no file was uploaded"):
        client.models.validate_upload("mine")
    sizes = {name: str(len(content)) for name, content in files.items()}
    links = client.models.get_upload_endpoint("mine", filename_to_size=sizes).filename_to_signed_urls or {}
    link, content = links["config.json"], files["config.json"]
    for sent, said in ((content[:-1], "ended 1 bytes before"), (content + b" ", "longer than it was announced")):
        answer = httpx.put(link, content=sent)
        assert (answer.status_code, said in answer.text) == (400, True)
    for wrong in (link.replace("size=", "size=9"), link.replace("config.json", "config.jso"), link[:-1]):
        assert httpx.put(wrong, content=content).status_code == 403
    assert httpx.get(link).status_code == 403, "a link to put is none to read"
    with pytest.raises(fireworks.BadRequestError, match=r"not uploaded yet: config\.json, "):
        client.models.validate_upload("mine")


@pytest.mark.parametrize("file", ["../up", "/etc/x", ".ftsim.json", "a//b", "a:b", "", "x" * 200, "a\\b", "..", "é"])
def test_a_file_stays_in_its_folder(client: Fireworks, file: str) -> None:
    client.models.create(model_id="mine", model={"kind": "HF_BASE_MODEL"})
    with pytest.raises(fireworks.BadRequestError, match="is no relative path"):
        client.models.get_upload_endpoint("mine", filename_to_size={file: "1"})


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"kind": "FLUMINA_BASE_MODEL"}, "HF_BASE_MODEL, HF_PEFT_ADDON, EMBEDDING_MODEL can be uploaded"),
        ({}, "has peftDetails"),
        ({"peft_details": {**PEFT, "base_model": "accounts/fireworks/models/none"}}, "not found"),
        ({"kind": "HF_BASE_MODEL", "peft_details": PEFT}, "peftDetails belong to"),
        ({"kind": "HF_BASE_MODEL", "supports_image_input": True}, "supportsImageInput is not supported"),
        ({"kind": "HF_BASE_MODEL", "snapshot_type": "INCREMENTAL_SNAPSHOT"}, "the whole of a model is uploaded"),
    ],
)
def test_a_model_that_could_not_be_is_refused_at_once(client: Fireworks, facts: Any, said: str) -> None:
    with pytest.raises((fireworks.BadRequestError, fireworks.NotFoundError), match=said):
        client.models.create(model_id="mine", model=facts)


def test_a_name_is_given_once(client: Fireworks, tmp_path: Path) -> None:
    upload(client, "mine", files_of(write_base(tmp_path / "base")))
    with pytest.raises(fireworks.ConflictError, match="already exists"):
        client.models.create(model_id="mine", model={"kind": "HF_BASE_MODEL"})
    with pytest.raises(fireworks.BadRequestError, match="takes no files"):
        client.models.get_upload_endpoint("mine", filename_to_size={"a": "1"})
    with pytest.raises(fireworks.BadRequestError, match="invalid model id"):
        client.models.create(model_id="Mine_2", model={"kind": "HF_BASE_MODEL"})


@pytest.mark.parametrize(
    ("kind", "files", "said"),
    [
        ("HF_BASE_MODEL", {"a.txt": b"a"}, "is no Hugging Face model folder: it has no config.json"),
        ("HF_BASE_MODEL", {"config.json": b'{"model_type": "x"}'}, "it has no safetensors files"),
        ("HF_BASE_MODEL", {"config.json": b"{", "model.safetensors": b"x"}, "its weights are not whole"),
        ("HF_BASE_MODEL", "adapter", "it is an adapter, not a base model"),
        ("HF_BASE_MODEL", "both", "transformers puts the adapter that lies in it onto its weights"),
        ("HF_PEFT_ADDON", "both", "weights of a whole model lie in it, too"),
        ("HF_PEFT_ADDON", "base", "is no PEFT folder: it has no adapter_config.json"),
        ("HF_PEFT_ADDON", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}, "has a rank"),
    ],
)
def test_a_folder_that_is_none_is_refused_with_the_reason(
    client: Fireworks, tmp_path: Path, kind: Any, files: Any, said: str
) -> None:
    if isinstance(files, str):
        written: Any = {"adapter": write_adapter, "base": write_base}
        asked = written if files == "both" else [files]
        files = {name: content for one in asked for name, content in files_of(written[one](tmp_path / one)).items()}
    more: Any = {"peft_details": PEFT} if kind == "HF_PEFT_ADDON" else {}
    client.models.create(model_id="mine", model={"kind": kind, **more})
    put(client, "mine", files)
    with pytest.raises(fireworks.BadRequestError, match=said):
        client.models.validate_upload("mine", config_only=True)
    assert client.models.get("mine").state == "UPLOADING"
    client.models.delete("mine")


def test_an_adapter_has_the_rank_that_was_said(client: Fireworks, http: httpx.Client, tmp_path: Path) -> None:
    files = files_of(write_adapter(tmp_path / "a", 8, (1.0, 2.0, 3.0, 4.0)))
    client.models.create(model_id="four", model={"peft_details": ON_RANK_4})
    put(client, "four", files)
    with pytest.raises(fireworks.BadRequestError, match=r"with rank 4, adapter_config\.json says 8"):
        client.models.validate_upload("four")
    client.models.create(model_id="eight", model={"kind": "HF_PEFT_ADDON", "peft_details": PEFT})
    put(client, "eight", files)
    client.models.validate_upload("eight")
    made = client.models.get("eight")
    assert made.peft_details is not None
    assert (made.state, made.kind, made.peft_details.base_model, made.peft_details.r) == (
        "READY", "HF_PEFT_ADDON", BASE, 8,
    )  # fmt: skip
    body = {"model": made.name, "prompt": [1], "max_tokens": 8, "temperature": 0}
    assert http.post("/inference/v1/completions", json=body).json()["choices"][0]["text"] == "c" * 8


def test_a_tokenizer_is_asked_for_unless_the_configuration_alone_is(client: Fireworks, tmp_path: Path) -> None:
    client.models.create(model_id="mine", model={"kind": "HF_BASE_MODEL"})
    put(client, "mine", files_of(write_base(tmp_path / "base")))
    with pytest.raises(fireworks.BadRequestError, match=r"has no tokenizer: upload tokenizer\.json"):
        client.models.validate_upload("mine")
    with pytest.raises(fireworks.BadRequestError, match="code in a folder is never run"):
        client.models.validate_upload("mine", trust_remote_code=True)
    put(client, "mine", {"tokenizer.json": b"{}"})
    client.models.validate_upload("mine", skip_hf_config_validation=True)
    assert client.models.get("mine").state == "READY"


def test_what_was_uploaded_is_there_after_a_restart(tmp_path: Path) -> None:
    files = files_of(write_base(tmp_path / "base"))
    state = tmp_path / "state"
    with Emulator(DictBackend(tmp_path / "b"), state_dir=state) as emu, client_of(emu) as client:
        client.models.create(model_id="begun", model={"kind": "HF_BASE_MODEL"})
        put(client, "begun", files)
        upload(client, "done", files)
    with Emulator(DictBackend(tmp_path / "b"), state_dir=state) as emu, client_of(emu) as client:
        assert [one.state for one in client.models.list()] == ["UPLOADING", "READY"]
        client.models.validate_upload("begun", config_only=True)
        assert [one.state for one in client.models.list()] == ["READY", "READY"]
        client.models.delete("begun")
        client.models.create(model_id="other", model={"kind": "HF_BASE_MODEL"})
        put(client, "other", files)
        emu.reset()
        assert not list((state / "uploads").rglob("*"))
