"""Uploads of models: announced, put file by file behind signed links, validated (WIRE 1.5)."""

from typing import Annotated, ClassVar

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from emulator.http import schemas
from emulator.http.bodies import Body, Ignored, Refusal, Refused, read_body, refuse
from emulator.http.control import wire
from emulator.http.control.models import UNREAD, address, full_name
from emulator.http.declare import ACTS, Endpoints
from emulator.http.web import Reply, platform_of
from emulator.platform.models.models import ADDON
from emulator.platform.models.uploads import NewModel

router = Endpoints()
_READ = "the files say it"
Size = Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^[0-9]{1,15}$")]


class PeftDetails(Body):
    """The facts of an adapter."""

    base_model: str = ""
    r: int = 0
    target_modules: list[str] = Field(default_factory=list)

    ignored: ClassVar[Ignored] = {"baseModelType": _READ}
    refused: ClassVar[Refused] = {"mergeAddonModelName": Refusal("adapters are not merged by name")}


class ModelFields(Body):
    """The resource that is created."""

    kind: str = ADDON
    display_name: str = ""
    description: str = ""
    peft_details: PeftDetails = Field(default_factory=PeftDetails)

    ignored: ClassVar[Ignored] = {
        **UNREAD,
        **dict.fromkeys(("baseModelDetails", "contextLength", "trainingContextLength", "supportsLora"), _READ),
        "useHfApplyChatTemplate": "chat goes through the template in the files",
        "supportsTools": "a template that takes tools is given them",
    }
    refused: ClassVar[Refused] = {
        "conversationConfig": Refusal("chat goes through the template in the files"),
        "snapshotType": Refusal("the whole of a model is uploaded", ("FULL_SNAPSHOT",)),
        "supportsImageInput": Refusal("an uploaded model reads text"),
        "teftDetails": Refusal("adapters are of PEFT"),
    }


class CreateModelBody(Body):
    """The body of a create."""

    model_id: str = ""
    model: ModelFields = Field(default_factory=ModelFields)

    refused: ClassVar[Refused] = {"cluster": Refusal("there are no clusters here")}


class GetUploadEndpoint(Body):
    """Names and sizes, in bytes, of the files to upload."""

    filename_to_size: dict[str, Size] = Field(default_factory=dict)

    ignored: ClassVar[Ignored] = {"readMask": "answers are whole"}
    refused: ClassVar[Refused] = {"enableResumableUpload": Refusal("each file is put at its link in one request")}


@router.serve("create_uploaded_model", answer=schemas.MODEL, body=CreateModelBody)
async def create(request: Request) -> Response:
    """Announce a model whose files will be uploaded."""
    sent, raw = await read_body(request, CreateModelBody)
    refuse(raw.get("model", {}), ModelFields)
    asked, peft = sent.model, sent.model.peft_details
    new = NewModel(
        sent.model_id, asked.kind, asked.display_name, asked.description, peft.base_model, peft.r, peft.target_modules
    )
    return Reply(wire.model(platform_of(request).uploads.create(request.path_params["account"], new)))


@router.serve("get_upload_endpoint", answer=schemas.LINKS, body=GetUploadEndpoint)
async def upload_endpoint(request: Request) -> Response:
    """Give a signed link for each file, at which it is PUT."""
    sent, _ = await read_body(request, GetUploadEndpoint)
    links = platform_of(request).uploads.links(
        full_name(request), {file: int(size) for file, size in sent.filename_to_size.items()}
    )
    base = address(request)
    return Reply({"filenameToSignedUrls": {file: base + link for file, link in links.items()}})


@router.serve("upload_model_file", query={"expires": ACTS, "signature": ACTS, "size": ACTS})
async def file(request: Request) -> Response:
    """Take the bytes of a file. No key is asked here: the link is signed."""
    said = [request.query_params.get(name, "") for name in ("expires", "signature", "size")]
    with platform_of(request).uploads.receiving(full_name(request), request.path_params["file"], *said) as taking:
        async for chunk in request.stream():
            if chunk:
                await run_in_threadpool(taking.take, chunk)
    return Reply({})


@router.serve(
    "validate_upload",
    answer=schemas.WARNINGS,
    query={
        "configOnly": ACTS,
        "skipHfConfigValidation": ACTS,
        "trustRemoteCode": Refusal("code in a folder is never run"),
    },
)
async def validate(request: Request) -> Response:
    """Look at what was uploaded; the model is READY then."""
    config_only, unbuilt = (request.query_params.get(n) == "true" for n in ("configOnly", "skipHfConfigValidation"))
    uploads = platform_of(request).uploads
    found = await run_in_threadpool(uploads.validate, full_name(request), config_only=config_only, unbuilt=unbuilt)
    return Reply({"warnings": found})
