"""/v1/accounts (WIRE 1.4)."""

from starlette.requests import Request
from starlette.responses import Response

from emulator.core.errors import PermissionDenied
from emulator.core.names import Subject
from emulator.http import schemas
from emulator.http.control import wire
from emulator.http.declare import LIST, READ_MASK, Endpoints
from emulator.http.web import Reply, caller, platform_of
from emulator.platform.models.facts import SHARED_ACCOUNT
from emulator.quirks import calls

router = Endpoints()
_WHOLE = {name: "there is one account, and it is listed" for name in LIST}


@router.serve("list_accounts", answer=schemas.page("accounts", schemas.ACCOUNT), query=_WHOLE)
async def list_accounts(request: Request) -> Response:
    """List exactly the caller's account, unless a quirk says otherwise (FAILURES F18)."""
    own = caller(request)
    listed = {"one": [own], "none": [], "two": [own, f"{own}-2"]}
    accounts = listed[platform_of(request).world.quirks.value(calls.ACCOUNTS_LISTED, Subject(account=own))]
    return Reply({"accounts": [*map(wire.account, accounts)], "nextPageToken": "", "totalSize": len(accounts)})


@router.serve("get_account", answer=schemas.ACCOUNT, query=READ_MASK)
async def get(request: Request) -> Response:
    """Show the caller's account, or the shared one."""
    wanted = request.path_params["account"]
    if wanted not in (caller(request), SHARED_ACCOUNT):
        raise PermissionDenied(f"this key belongs to account {caller(request)!r}, not to {wanted[:64]!r}")
    return Reply(wire.account(wanted))
