"""An uploaded folder is served, trained, and taken as an add-on, with the weights that were in it."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fireworks import Fireworks
from fireworks.training.sdk import DeploymentConfig, DeploymentManager
from safetensors.torch import load_file, save_file

from emulator import Emulator
from emulator.backend import BaseModel
from tests.http.control.test_uploads import client_of, files_of, put
from tests.http.inference.conftest import BASE, Train
from tests.http.inference.test_addons import adapter, deployment
from tests.http.inference.test_managed import datum, step
from tests.http.inference.test_promoted import rows


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Fireworks]:
    with client_of(emulator) as client:
        yield client


def own_base(emulator: Emulator, client: Fireworks, tmp_path: Path, scale: float) -> str:
    """Upload the base model's folder with one tensor scaled; the model's full name."""
    files = files_of(emulator.platform.backend.folder(BaseModel(BASE)))
    (tmp_path / "own.safetensors").write_bytes(files["model.safetensors"])
    tensors = load_file(tmp_path / "own.safetensors")
    tensors["model.norm.weight"] *= scale
    save_file(tensors, tmp_path / "own.safetensors", {"format": "pt"})
    files["model.safetensors"] = (tmp_path / "own.safetensors").read_bytes()
    client.models.create(model_id="own", model={"kind": "HF_BASE_MODEL"})
    put(client, "own", files)
    assert client.models.validate_upload("own").warnings == []
    return f"accounts/{emulator.account}/models/own"


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_an_uploaded_base_model_is_served_and_trained(
    emulator: Emulator,
    client: Fireworks,
    manager: DeploymentManager,
    http: httpx.Client,
    train: Train,
    tmp_path: Path,
    lora_rank: int,
) -> None:
    own = own_base(emulator, client, tmp_path, 0.5)
    served = rows(http, own)
    assert served != rows(http, BASE)
    trained = train("t1", lora_rank, own)
    tokens = [int(entry["token_id"]) for entry in served]
    forward = trained.forward([datum(tokens)], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data
    assert [entry["logprob"] for entry in served[1:]] == pytest.approx(list(forward), abs=1e-4)
    step(trained)
    after = trained.forward([datum(tokens)], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data
    assert list(after) != list(forward)
    config = DeploymentConfig("d1", own, accelerator_type="NVIDIA_H200_141GB", min_replica_count=1)
    manager.create_or_get(config)
    assert rows(http, f"accounts/{emulator.account}/deployments/d1") == served


def test_an_adapter_that_was_downloaded_is_uploaded_and_loaded(
    emulator: Emulator, client: Fireworks, http: httpx.Client, train: Train
) -> None:
    model, _ = adapter(emulator, train, "one")
    links = client.models.get_download_endpoint("one").filename_to_signed_urls or {}
    files = {name: httpx.get(link).content for name, link in links.items()}
    details = client.models.get("one").peft_details
    assert details is not None
    client.models.create(
        model_id="two",
        model={
            "kind": "HF_PEFT_ADDON",
            "peft_details": {
                "base_model": details.base_model,
                "r": details.r,
                "target_modules": details.target_modules,
            },
        },
    )
    put(client, "two", files)
    assert client.models.validate_upload("two").warnings == []
    place = deployment(client, emulator)
    two = f"accounts/{emulator.account}/models/two"
    client.lora.load(model=two, deployment=place)
    assert rows(http, f"{two}#{place}") == rows(http, model) == rows(http, two)
    assert rows(http, place) != rows(http, two)


def test_weights_that_do_not_open_are_refused(emulator: Emulator, client: Fireworks) -> None:
    files = files_of(emulator.platform.backend.folder(BaseModel(BASE)))
    config = files["config.json"].replace(b'"num_hidden_layers": 2', b'"num_hidden_layers": 3')
    assert config != files["config.json"]
    client.models.create(model_id="own", model={"kind": "HF_BASE_MODEL"})
    put(client, "own", {**files, "config.json": config})
    with pytest.raises(Exception, match="own does not open"):
        client.models.validate_upload("own")
    put(client, "own", {"config.json": files["config.json"]})
    client.models.validate_upload("own")
    assert client.models.get("own").state == "READY"


def test_the_page_uploads_a_folder(emulator: Emulator, client: Fireworks, http: httpx.Client) -> None:
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(from pathlib import Path.*?)```", page, re.DOTALL)
    exec(block, {"emulator": emulator, "folder": emulator.platform.backend.folder(BaseModel(BASE))})
    assert client.models.get("mine").state == "READY"
    assert rows(http, f"accounts/{emulator.account}/models/mine") == rows(http, BASE)
