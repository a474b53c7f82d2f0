"""Every field that an installed client can send is declared: it acts, changes nothing, or is refused."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import httpx
import pytest
import typing_extensions
from pydantic import BaseModel

from emulator.http.bodies import spellings
from emulator.http.inference.chat import CreateChatCompletion
from emulator.http.tables import declared, fields
from tests.doubles import BASE
from tests.http import exchanges

TYPES = "fireworks.types"
PARAMS = {
    "list_accounts": "account_list_params.AccountListParams",
    "get_account": "account_get_params.AccountGetParams",
    "create_job": "reinforcement_fine_tuning_step_create_params.ReinforcementFineTuningStepCreateParams",
    "get_job": "reinforcement_fine_tuning_step_get_params.ReinforcementFineTuningStepGetParams",
    "list_jobs": "reinforcement_fine_tuning_step_list_params.ReinforcementFineTuningStepListParams",
    "resume_job": "reinforcement_fine_tuning_step_resume_params.ReinforcementFineTuningStepResumeParams",
    "cancel_job": "reinforcement_fine_tuning_step_cancel_params.ReinforcementFineTuningStepCancelParams",
    "create_deployment": "deployment_create_params.DeploymentCreateParams",
    "patch_deployment": "deployment_update_params.DeploymentUpdateParams",
    "scale_deployment": "deployment_scale_params.DeploymentScaleParams",
    "get_deployment": "deployment_get_params.DeploymentGetParams",
    "list_deployments": "deployment_list_params.DeploymentListParams",
    "delete_deployment": "deployment_delete_params.DeploymentDeleteParams",
    "undelete_deployment": "deployment_undelete_params.DeploymentUndeleteParams",
    "get_model": "model_get_params.ModelGetParams",
    "list_models": "model_list_params.ModelListParams",
    "update_model": "model_update_params.ModelUpdateParams",
    "get_download_endpoint": "model_get_download_endpoint_params.ModelGetDownloadEndpointParams",
    "create_uploaded_model": "model_create_params.ModelCreateParams",
    "get_upload_endpoint": "model_get_upload_endpoint_params.ModelGetUploadEndpointParams",
    "validate_upload": "model_validate_upload_params.ModelValidateUploadParams",
    "create_deployed_model": "lora_load_params.LoraLoadParams",
    "get_deployed_model": "lora_get_params.LoraGetParams",
    "list_deployed_models": "lora_list_params.LoraListParams",
    "update_deployed_model": "lora_update_params.LoraUpdateParams",
    "list_deployment_shapes": "deployment_shape_list_params.DeploymentShapeListParams",
    "get_deployment_shape": "deployment_shape_get_params.DeploymentShapeGetParams",
    "list_deployment_shape_versions": "deployment_shape_version_list_params.DeploymentShapeVersionListParams",
    "get_deployment_shape_version": "deployment_shape_version_get_params.DeploymentShapeVersionGetParams",
    "completions": "completion_create_params.CompletionCreateParamsBase",
    "messages": "message_create_params.MessageCreateParams",
    "chat_completions": "chat.completion_create_params.CompletionCreateParamsBase",
}
REQUESTS = {
    "client_config": "ClientConfigRequest",
    "create_session": "CreateSessionRequest",
    "session_heartbeat": "SessionHeartbeatRequest",
    "telemetry": "TelemetrySendRequest",
    "create_model": "CreateModelRequest",
    "get_info": "GetInfoRequest",
    "unload_model": "UnloadModelRequest",
    "retrieve_future": "FutureRetrieveRequest",
    "forward": "ForwardRequest",
    "forward_backward": "ForwardBackwardRequest",
    "optim_step": "OptimStepRequest",
    "save_weights": "SaveWeightsRequest",
    "save_weights_for_sampler": "SaveWeightsForSamplerRequest",
    "load_weights": "LoadWeightsRequest",
}
IN_THE_PATH = {"account_id", "deployment_shape_id"}
"""What a client takes as an argument and writes into the path."""
DECLARED = {one.row.operation: {name.removeprefix("?") for name, _, _ in fields(one)} for one in declared()}


def sent_by(params: Any) -> Iterator[str]:
    """The names on the wire of a TypedDict's fields: an alias where there is one."""
    for name, hint in typing_extensions.get_type_hints(params, include_extras=True).items():
        kinds = (hint, *getattr(hint, "__args__", ()))
        notes = [note for kind in kinds for note in getattr(kind, "__metadata__", ())]
        yield next((note.alias for note in notes if getattr(note, "alias", None)), name)


def known(operation: str, name: str) -> bool:
    return bool(spellings(name) & DECLARED[operation]) or name in DECLARED[operation]


@pytest.mark.parametrize("operation", PARAMS)
def test_a_field_of_the_rest_client_is_declared(operation: str) -> None:
    module, _, name = PARAMS[operation].rpartition(".")
    sent = set(sent_by(getattr(import_module(f"{TYPES}.{module}"), name))) - IN_THE_PATH
    assert not {one for one in sent if not known(operation, one)}


@pytest.mark.parametrize("operation", REQUESTS)
def test_a_field_of_the_training_client_is_declared(operation: str) -> None:
    types = import_module("fireworks.training.sdk.types")
    request = getattr(types, REQUESTS[operation])
    found: Mapping[str, Any] = (
        request.model_fields if issubclass(request, BaseModel) else typing_extensions.get_type_hints(request)
    )
    assert found
    assert not {one for one in found if not known(operation, one)}


def test_an_undeclared_field_would_be_noticed() -> None:
    assert not known("create_job", "someNewField")
    assert known("create_job", "trainingConfig")


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with exchanges.running() as client:
        exchanges.tell_serving(client)
        yield client


HEADERS = {"fireworks-model": BASE, "fireworks-deployment": exchanges.DEPLOYMENT}


@pytest.mark.parametrize("reset", ["all", "new_session", "none", True, False, None])
def test_a_hot_load_takes_every_way_to_reset_the_cache(http: httpx.Client, reset: object) -> None:
    body = {"identity": "step-1-0123abcd", "reset_prompt_cache": reset}
    answer = http.post("/hot_load/v1/models/hot_load", json=body, headers=HEADERS)
    assert (answer.status_code, answer.json()["status"]) == (200, "accepted")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"reset_prompt_cache": "some"}, "use one of all, new_session, none, or a boolean"),
        ({"reset_prompt_cache": 1}, "expected a bool or a str"),
        ({"validation": {"extra_fields_ignore": [1]}}, "validation.extra_fields_ignore: expected names of fields"),
        ({"validation": {"more": []}}, "more: Extra inputs are not permitted"),
        ({"validation": []}, "validation: expected a dict"),
    ],
)
def test_a_hot_load_refuses_by_name(http: httpx.Client, more: dict[str, object], says: str) -> None:
    body = {"identity": "step-1-0123abcd", **more}
    answer = http.post("/hot_load/v1/models/hot_load", json=body, headers=HEADERS)
    assert answer.status_code == 400
    assert says in answer.json()["message"]


def test_a_hot_load_may_name_fields_that_no_check_looks_at(http: httpx.Client) -> None:
    body = {"identity": "step-1-0123abcd", "validation": {"extra_fields_ignore": ["rope_scaling"]}}
    assert http.post("/hot_load/v1/models/hot_load", json=body, headers=HEADERS).status_code == 200


@pytest.mark.parametrize(
    "more",
    [
        *({"reasoning_effort": one} for one in ("none", "low", "medium", "high", True, False, 512)),
        {"thinking": {"type": "disabled"}},
        {"thinking": {"type": "enabled", "budget_tokens": 100}},
    ],
)
def test_thinking_settings_are_accepted(http: httpx.Client, more: dict[str, object]) -> None:
    asked = {"model": exchanges.DEPLOYMENT, "max_tokens": 1, "temperature": 0.0, **more}
    plain = http.post("/inference/v1/completions", json={**asked, "prompt": [1, 2]})
    bare = http.post(
        "/inference/v1/completions",
        json={"model": exchanges.DEPLOYMENT, "max_tokens": 1, "temperature": 0.0, "prompt": [1, 2]},
    )
    assert plain.json()["choices"] == bare.json()["choices"]
    chat = http.post("/inference/v1/chat/completions", json={**asked, "messages": [{"role": "user", "content": "a"}]})
    assert chat.status_code == 200, chat.text
    assert "fireworks-debug-unread-fields" not in chat.headers


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"reasoning_effort": "high"}, {"reasoning_effort": "high"}),
        ({"reasoning_effort": "none"}, {"reasoning_effort": "none", "enable_thinking": False}),
        ({"reasoning_effort": False}, {"reasoning_effort": False, "enable_thinking": False}),
        ({"reasoning_effort": 512}, {"reasoning_effort": 512}),
        ({"thinking": {"type": "disabled"}}, {"enable_thinking": False}),
        (
            {"thinking": {"type": "disabled"}, "chat_template_kwargs": {"enable_thinking": True}},
            {"enable_thinking": True},
        ),
        ({}, {}),
    ],
)
def test_a_template_is_told_of_thinking(more: dict[str, object], told: dict[str, object]) -> None:
    sent = CreateChatCompletion.model_validate({"messages": [{"role": "user", "content": "a"}], **more})
    assert sent.variables == told


@pytest.mark.parametrize("key", ["fw-ftsim-local", "tml-fw-ftsim-local"])
@pytest.mark.parametrize("header", ["X-Api-Key", "Authorization"])
def test_a_key_may_begin_as_tinkers_client_wants_it(http: httpx.Client, key: str, header: str) -> None:
    sent = {header: key if header == "X-Api-Key" else f"Bearer {key}"}
    assert httpx.get(f"{http.base_url}/v1/accounts", headers=sent).status_code == 200
    other = {name: value.replace("local", "other") for name, value in sent.items()}
    assert httpx.get(f"{http.base_url}/v1/accounts", headers=other).status_code == 401


@pytest.mark.parametrize(
    ("verb", "more", "says"),
    [
        ("save_weights", {"path": "again", "overwrite": True}, "overwrite is not supported"),
        ("load_weights", {"path": "step-1", "weights_access_token": "t"}, "weights_access_token is not supported"),
    ],
)
def test_a_refused_field_fails_its_future_and_no_request(
    http: httpx.Client, verb: str, more: dict[str, object], says: str
) -> None:
    gateway = "/training/v1/rlorTrainerJobs/local/j1/api/v1/"
    session = http.post(f"{gateway}create_session", json={}).json()["session_id"]
    made = {"session_id": session, "model_seq_id": 0, "base_model": BASE}

    def result(accepted: httpx.Response) -> dict[str, Any]:
        assert accepted.status_code == 200
        asked = {"request_id": accepted.json()["request_id"]}
        return dict(http.post(f"{gateway}retrieve_future", json=asked).json())

    model = result(http.post(f"{gateway}create_model", json=made))["model_id"]
    failed = result(http.post(f"{gateway}{verb}", json={"model_id": model, "seq_id": 1, **more}))
    assert failed["category"] == "user"
    assert says in failed["error"]
