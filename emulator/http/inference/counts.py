"""/inference/v1/messages/count_tokens and /inference/v1/responses/input_tokens: counts of a prompt, not an answer."""

from starlette.requests import Request
from starlette.responses import Response

from emulator.http import schemas
from emulator.http.bodies import read_body
from emulator.http.declare import Endpoints
from emulator.http.inference import messages, responses
from emulator.http.inference.adapters import counted
from emulator.http.web import Reply

router = Endpoints()
COUNTED = schemas.obj({"input_tokens": schemas.INTEGER})


async def of_messages(request: Request) -> Response:
    """Count the tokens of messages as the model would be given them."""
    sent, _ = await read_body(request, messages.CreateMessage)
    asked, _, begun = await messages.chat_of(request, sent)
    return Reply({"input_tokens": await counted(request, asked, begun)})


async def of_input(request: Request) -> Response:
    """Count the tokens of a response's input as the model would be given it."""
    sent, _ = await read_body(request, responses.CreateResponse)
    asked, _ = await responses.chat_of(request, sent)
    return Reply({"object": "response.input_tokens", "input_tokens": await counted(request, asked)})


for _operation in ("count_tokens", "count_tokens_bare"):
    router.serve(_operation, answer=COUNTED, body=messages.CreateMessage)(of_messages)
router.serve("input_tokens", answer=COUNTED, body=responses.CreateResponse)(of_input)
