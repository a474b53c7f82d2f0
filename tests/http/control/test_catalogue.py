"""Models and shapes that exist from the start, and those that a file or a folder adds (WIRE 1.5, 1.6, 10)."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from fireworks import Fireworks
from fireworks.training.sdk import FireworksClient

from emulator.core import catalogue as table
from emulator.core.errors import InvalidArgument, NotFound
from emulator.platform.models.catalogue import Catalogue
from emulator.platform.models.facts import MODES
from emulator.server import Emulator
from tests.doubles import MOE, write_adapter, write_base

FW = "accounts/fireworks"


def key(emu: Emulator) -> dict[str, str]:
    return {"Authorization": f"Bearer {emu.api_key}"}


@pytest.mark.parametrize(
    ("shape", "model", "mode", "context"),
    [
        ("ts-qwen3-4b-smoke-v1", "qwen3-4b", "POLICY_TRAINER", 8_192),
        ("qwen3-4b-minimum", "qwen3-4b", "POLICY_TRAINER", 65_536),
        ("qwen3-4b-minimum-forward-only", "qwen3-4b", "FORWARD_ONLY", 32_768),
        ("qwen3-4b-minimum-lora", "qwen3-4b", "LORA_TRAINER", 32_768),
        ("qwen3-8b-128k-h200", "qwen3-8b", "POLICY_TRAINER", 131_072),
        ("qwen3-8b-256k-h200-lora", "qwen3-8b", "LORA_TRAINER", 256_000),
        ("qwen3p5-9b-256k", "qwen3p5-9b", "POLICY_TRAINER", 262_144),
        ("qwen3p5-9b-256k-lora", "qwen3p5-9b", "LORA_TRAINER", 262_144),
        ("qwen3-embedding-8b", "qwen3-embedding-8b", "POLICY_TRAINER", 32_768),
        ("ts-qwen3-8b-policy", "qwen3-8b", "POLICY_TRAINER", 40_960),
    ],
)
def test_the_client_resolves_every_named_shape(
    client: FireworksClient, http: httpx.Client, shape: str, model: str, mode: str, context: int
) -> None:
    profile = client.resolve_training_profile(f"{FW}/trainingShapes/{shape}")
    assert profile.training_shape_version == f"{FW}/trainingShapes/{shape}/versions/v1"
    assert (profile.trainer_mode, profile.max_supported_context_length) == (mode, context)
    pinned = client.resolve_training_profile(profile.training_shape_version)
    assert pinned.__dict__ == profile.__dict__
    deployment = http.get(f"/v1/{profile.deployment_shape}").json()
    assert deployment["snapshot"]["baseModel"] == f"{FW}/models/{model}"


def test_the_client_says_that_a_shape_is_not_there(client: FireworksClient) -> None:
    with pytest.raises(RuntimeError, match="'accounts/fireworks/trainingShapes/nope' was not found"):
        client.resolve_training_profile(f"{FW}/trainingShapes/nope")


def test_every_model_has_a_shape_of_every_mode(http: httpx.Client) -> None:
    catalogue = Catalogue.load()
    for model in catalogue.models:
        for mode in MODES:
            text = f'snapshot.base_model="{model}" AND snapshot.trainer_mode="{mode}" AND latest_validated=true'
            params: dict[str, Any] = {"filter": text, "orderBy": "create_time desc", "pageSize": 200}
            found = http.get("/v1/accounts/-/trainingShapes/-/versions", params=params).json()
            assert found["trainingShapeVersions"], (model, mode)
            assert {v["snapshot"]["trainerMode"] for v in found["trainingShapeVersions"]} == {mode}


def test_shapes_are_found_by_model_type_and_size(http: httpx.Client) -> None:
    size = "snapshot.parameter_count"
    text = f'snapshot.model_type="qwen3" AND {size}>=7000000000 AND {size}<=9000000000'
    found = http.get("/v1/accounts/-/trainingShapes/-/versions", params={"filter": text, "pageSize": 200}).json()
    models = {version["snapshot"]["baseModel"] for version in found["trainingShapeVersions"]}
    assert models == {f"{FW}/models/qwen3-8b", f"{FW}/models/qwen3-embedding-8b"}


def test_a_wildcard_list_is_paged_to_its_end(http: httpx.Client) -> None:
    seen: list[str] = []
    token = ""
    while True:
        page = http.get("/v1/accounts/-/trainingShapes/-/versions", params={"pageSize": 10, "pageToken": token}).json()
        seen += [version["name"] for version in page["trainingShapeVersions"]]
        token = page["nextPageToken"]
        if not token:
            break
    assert len(seen) == len(set(seen)) == len(Catalogue.load().training_shapes)


@pytest.mark.parametrize("text", ["a", "a=", '"x"=1', "a=1 OR b=2", "a=1 b=2", 'a="open', "a~1", "(a=1)"])
def test_a_filter_that_is_not_understood_is_refused(http: httpx.Client, text: str) -> None:
    answer = http.get("/v1/accounts/-/trainingShapes/-/versions", params={"filter": text})
    assert (answer.status_code, answer.json()["code"]) == (400, 3)


def test_models_tell_whether_they_are_mixtures(client: FireworksClient) -> None:
    assert client.model_is_moe(MOE) is True
    assert client.model_is_moe(f"{FW}/models/qwen3-8b") is False


def test_the_generic_client_reads_models_and_deployment_shapes(emu: Emulator) -> None:
    with Fireworks(api_key=emu.api_key, base_url=emu.url, account_id="fireworks") as generic:
        model = generic.models.get("qwen3-8b")
        assert model.base_model_details is not None
        assert model.base_model_details.parameter_count == "8190735360"
        shared = [name for name in Catalogue.load().models if name.startswith(f"{FW}/")]
        assert [known.name for known in generic.models.list(page_size=50)] == shared
        versions = list(generic.deployment_shape_versions.list("rft-qwen3p5-9b-v2"))
        assert [version.latest_validated for version in versions] == [True]
        assert generic.deployment_shapes.get("ds-qwen3-8b").base_model == f"{FW}/models/qwen3-8b"


def rows(kind: str) -> list[Any]:
    known = table.table().models if kind == "model" else table.table().shapes
    return list(known.values())


@pytest.mark.parametrize("platform", table.PLATFORMS)
def test_every_row_of_the_table_answers_on_its_platform_and_not_before(platform: str) -> None:
    with Emulator(platform=platform) as emu, httpx.Client(base_url=emu.url, headers=key(emu)) as http:
        for row in (*rows("model"), *rows("shape")):
            answer = http.get(f"/v1/{row.name}")
            assert answer.status_code == (200 if row.since <= platform else 404), row.name
            if answer.status_code == 200:
                assert answer.json()["name"] == row.name


def test_a_name_of_a_later_platform_says_which() -> None:
    with Emulator(platform="2026-04") as emu, httpx.Client(base_url=emu.url, headers=key(emu)) as http:
        answer = http.get(f"/v1/{FW}/models/kimi-k3")
    assert answer.status_code == 404
    assert "use --platform 2026-08" in answer.json()["message"]


def test_a_base_model_tells_what_a_client_asks_before_it_trains(http: httpx.Client) -> None:
    body = http.get(f"/v1/{FW}/models/qwen3p8-27b").json()
    assert (body["name"], body["supervisedLoraTunable"]) == (f"{FW}/models/qwen3p8-27b", True)
    assert body["trainingContextLength"] == 131_072
    assert body["huggingFaceUrl"] == "https://huggingface.co/Qwen/Qwen3.8-27B"
    assert body["supportsServerless"] is True


def test_every_model_says_how_long_it_trains_and_never_a_repository_that_is_not_known(http: httpx.Client) -> None:
    for facts in rows("model"):
        body = http.get(f"/v1/{facts.name}").json()
        assert body["trainingContextLength"] > 0
        assert body.get("huggingFaceUrl", "") == (facts.tokenizer and f"https://huggingface.co/{facts.tokenizer}")
        assert body["supervisedLoraTunable"] == any(flag.partition("@")[0] == "sl" for flag in facts.flags)


def test_a_flag_has_a_date() -> None:
    with Emulator(platform="2026-08") as emu, httpx.Client(base_url=emu.url, headers=key(emu)) as http:
        assert http.get(f"/v1/{FW}/models/qwen3p8-27b").json()["supervisedLoraTunable"] is False


@pytest.mark.parametrize(
    "name",
    ["qwen3p9-72b-a9b", "kimi-k9", "deepseek-v9-pro", "glm-9p1", "llama-v9-8b", "gemma-9-9b-it", "gpt-oss-9b",
     "mistral-huge-9b", "nemotron-9-ultra", "minimax-m9", "muse-glimmer-90b"],
)  # fmt: skip
def test_a_name_that_begins_like_a_known_family_is_served(
    client: FireworksClient, http: httpx.Client, name: str
) -> None:
    full = f"{FW}/models/{name}"
    assert http.get(f"/v1/{full}").json()["name"] == full
    profile = client.resolve_training_profile(f"{FW}/trainingShapes/ts-{name}-lora")
    assert profile.trainer_mode == "LORA_TRAINER"
    assert http.get(f"/v1/{profile.deployment_shape}").json()["snapshot"]["baseModel"] == full
    text = f'snapshot.base_model="{full}" AND latest_validated=true'
    found = http.get("/v1/accounts/-/trainingShapes/-/versions", params={"filter": text}).json()
    assert {version["snapshot"]["trainerMode"] for version in found["trainingShapeVersions"]} == set(MODES)
    assert client.model_is_moe(full) is (
        name in ("qwen3p9-72b-a9b", "kimi-k9", "deepseek-v9-pro", "glm-9p1", "gpt-oss-9b", "minimax-m9")
    )


@pytest.mark.parametrize("name", ["zebra-9b", "qwen", "my-qwen3", "kimi", "qwen3-", "qwen3-8B"])
def test_any_other_name_is_refused_with_how_to_add_it(http: httpx.Client, name: str) -> None:
    answer = http.get(f"/v1/{FW}/models/{name}")
    assert answer.status_code == 404
    assert "--model NAME=FOLDER" in answer.json()["message"]
    assert "--catalogue FILE" in answer.json()["message"]


def test_the_latest_version_has_a_name_of_its_own(client: FireworksClient, http: httpx.Client) -> None:
    profile = client.resolve_training_profile(f"{FW}/trainingShapes/qwen3-8b-128k")
    assert profile.training_shape_version == f"{FW}/trainingShapes/qwen3-8b-128k/versions/vnuk8fdq"
    assert profile.deployment_shape_version == f"{FW}/deploymentShapes/rft-qwen3-8b/versions/gyiqbrd6"
    assert (profile.accelerator_type, profile.accelerator_count) == ("NVIDIA_B200_180GB", 4)
    for shape in ("trainingShapes/qwen3-8b-128k", "deploymentShapes/rft-qwen3-8b"):
        latest = http.get(f"/v1/{FW}/{shape}/versions/latest").json()
        assert latest["name"].startswith(f"{FW}/{shape}/versions/")
        assert not latest["name"].endswith("latest")
        assert latest["latestValidated"] is True


@pytest.mark.parametrize(
    ("date", "platform"),
    [("2026-04", "2026-04"), ("2026-07-31", "2026-04"), ("2026-10", "2026-08"), ("2027-01-01", "2026-11")],
)
def test_a_date_falls_on_the_nearest_platform_before_it(date: str, platform: str) -> None:
    assert table.platform_of(date) == platform


@pytest.mark.parametrize("date", ["2026-03", "yesterday", "", "2026"])
def test_what_is_no_date_or_too_early_is_refused(date: str) -> None:
    with pytest.raises(ValueError, match="platform"):
        table.platform_of(date)


TOML = """
[models.tiny-dense]
model_type = "llama"
parameter_count = 1_000
context_length = 512
folder = "weights"

[training_shapes.tiny-shape]
base_model = "tiny-dense"
max_context_length = 256
versions = ["v1", "v2"]
"""


def test_a_file_adds_models_and_shapes(tmp_path: Path) -> None:
    (tmp_path / "more.toml").write_text(TOML)
    catalogue = Catalogue.load(tmp_path / "more.toml")
    assert catalogue.base_model(f"{FW}/models/tiny-dense").folder == tmp_path / "weights"
    shape, version = catalogue.training_shape(f"{FW}/trainingShapes/tiny-shape")
    assert (shape.max_context_length, version) == (256, "v2")
    assert shape.deployment_shape == f"{FW}/deploymentShapes/ds-tiny-dense"


def test_a_file_in_yaml_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text(
        "models:\n  accounts/acct1/models/mine: {model_type: llama, parameter_count: 9, context_length: 64}\n"
    )
    catalogue = Catalogue.load(tmp_path / "more.yaml")
    assert catalogue.base_model("accounts/acct1/models/mine").folder is None
    assert catalogue.training_shape("accounts/acct1/trainingShapes/ts-mine-lora")[0].trainer_mode == "LORA_TRAINER"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = [", "cannot read"),
        ("[nonsense]", "unknown section"),
        ("[models.a]\nmodel_type = 'x'", "missing"),
        ("[models.a]\nmodel_type = 7\nparameter_count = 1\ncontext_length = 1", "model_type"),
        ("[models.a]\nmodel_type = 'x'\nparameter_count = 1\ncontext_length = 1\ncolour = 'red'", "colour"),
        ("[models.'a b']\nmodel_type = 'x'\nparameter_count = 1\ncontext_length = 1", "a b"),
        ("[training_shapes.s]\nbase_model = 'nope'\nmax_context_length = 1", "unknown base model"),
        ("[training_shapes.s]\nbase_model = 'qwen3-8b'\nmax_context_length = 1\ntrainer_mode = 'X'", "trainer_mode"),
        ("models = 3", "maps names"),
    ],
)
def test_a_bad_file_is_named_with_the_entry(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InvalidArgument, match=says) as caught:
        Catalogue.load(path)
    if says != "a b":
        assert str(path) in str(caught.value)


def test_a_folder_stands_behind_a_name(tmp_path: Path) -> None:
    catalogue = Catalogue.load()
    known = catalogue.add_model("qwen3-8b", write_base(tmp_path / "known"))
    assert (known.parameter_count, known.tokenizer, known.context_length) == (4, "Qwen/Qwen3-8B", 4096)
    catalogue.add_model("accounts/acct1/models/new", write_base(tmp_path / "new"))
    assert catalogue.base_model("accounts/acct1/models/new").folder == tmp_path / "new"
    with pytest.raises(InvalidArgument, match="no Hugging Face model folder"):
        catalogue.add_model("x", write_adapter(tmp_path / "adapter"))
    with pytest.raises(NotFound):
        catalogue.base_model("accounts/acct1/models/other")
