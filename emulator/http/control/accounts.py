"""/v1/accounts (WIRE 1.4)."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router

from emulator.core.errors import PermissionDenied
from emulator.core.names import Subject
from emulator.http.control import wire
from emulator.http.web import Reply, caller, platform_of
from emulator.platform.models.catalogue import SHARED_ACCOUNT
from emulator.quirks import calls

router = Router()


async def list_accounts(request: Request) -> Response:
    """Exactly the caller's account, unless a quirk says otherwise (FAILURES F18)."""
    own = caller(request)
    listed = {"one": [own], "none": [], "two": [own, f"{own}-2"]}
    accounts = listed[platform_of(request).world.quirks.value(calls.ACCOUNTS_LISTED, Subject(account=own))]
    return Reply(wire.listing("accounts", map(wire.account, accounts), "", len(accounts)))


async def get(request: Request) -> Response:
    wanted = request.path_params["account"]
    if wanted not in (caller(request), SHARED_ACCOUNT):
        raise PermissionDenied(f"this key belongs to account {caller(request)!r}, not to {wanted[:64]!r}")
    return Reply(wire.account(wanted))


router.add_route("/v1/accounts", list_accounts, methods=["GET"])
router.add_route("/v1/accounts/{account}", get, methods=["GET"])
