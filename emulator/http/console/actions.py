"""Does what buttons ask. What a client could do is asked as a client asks; the rest is the control API's."""

import re
import shutil
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from emulator.core.clock import rfc3339
from emulator.core.errors import InvalidArgument, NotFound
from emulator.core.names import OwnerName
from emulator.http.console.access import Access
from emulator.http.console.client import ask
from emulator.http.console.render import back, link, page
from emulator.http.console.views import chat as chat_views, failures as failure_views, states as state_views
from emulator.http.web import platform_of
from emulator.journal.journal import Journal
from emulator.platform import archive
from emulator.quirks import profiles

Action = Callable[..., Awaitable[Response]]


async def _promote(request: Request, owner: str, checkpoint: str) -> Response:
    """Promote a row as a client does, so that it is in the journal and meets the switches."""
    account, _, identifier = OwnerName.parse(owner)
    here = link("run", owner)
    model = request.scope["form"].get("model", "").strip()
    row = platform_of(request).world.checkpoints.get(f"{owner}/checkpoints/{checkpoint}")
    if row is None:
        raise NotFound(f"there is no row {checkpoint[:120]!r} (any more)")
    told = await ask(
        request,
        "POST",
        f"/v1/{owner}/checkpoints/{checkpoint}:promote",
        key_of(request, account),
        {"output_model": f"accounts/{account}/models/{model}", "base_model": row.base_model},
    )
    if told.ok:
        return back(request, here, f"{checkpoint} of {identifier} is promoted to {model}")
    return back(request, here, f"promotion refused (HTTP {told.status}): {told.message}", "bad")


async def _preempt(request: Request, owner: str) -> Response:
    account, _, identifier = OwnerName.parse(owner)
    platform_of(request).jobs.preempt(account, identifier)
    return back(request, link("run", owner), f"{identifier} has lost its machine", "busy")


async def _resume(request: Request, owner: str) -> Response:
    account, _, identifier = OwnerName.parse(owner)
    told = await ask(request, "POST", f"/v1/{owner}:resume", key_of(request, account), {})
    note = f"{identifier} is resumed" if told.ok else f"resume refused (HTTP {told.status}): {told.message}"
    return back(request, link("run", owner), note, "good" if told.ok else "bad")


async def _quirk_on(request: Request) -> Response:
    """Turn a switch on."""
    setting = failure_views.turn_on(platform_of(request).world.quirks, request.scope["form"])
    note = f"{setting.name} is on: {setting.value!r}"
    return back(request, f"{link('failures', words=_words(request))}", note)


async def _quirk_off(request: Request) -> Response:
    """Turn a switch off, or all of them."""
    name = request.scope["form"].get("name", "")
    count = failure_views.turn_off(platform_of(request).world.quirks, name)
    return back(request, link("failures", words=_words(request)), f"{name or count} is off" if name else "all are off")


async def _profile(request: Request) -> Response:
    """Turn on a named set of switches."""
    name = request.scope["form"].get("profile", "")
    if name not in profiles.names():  # a file of the machine is for the command line
        raise InvalidArgument(f"there is no built-in profile {name[:80]!r}")
    made = profiles.apply(platform_of(request).world.quirks, name)
    return back(request, link("failures"), f"profile {name}: {len(made)} switches are on")


async def _clock(request: Request) -> Response:
    """Move the emulator's time forward."""
    text = request.scope["form"].get("seconds", "")
    clock = platform_of(request).world.clock
    try:
        clock.advance(float(text))
    except ValueError as error:
        raise InvalidArgument(f"seconds: {error}") from None
    return back(request, link("clock"), f"{float(text):g} s later: it is {rfc3339(clock.now(), 0)}")


async def _save(request: Request) -> Response:
    """Save all there is as an archive."""
    platform = platform_of(request)
    name = request.scope["form"].get("name", "").strip() or f"{rfc3339(platform.world.clock.now(), 0)}".replace(":", "")
    file = await run_in_threadpool(state_views.save, platform, name)
    return back(request, link("state"), f"saved as {file.name}")


async def _restore(request: Request) -> Response:
    """Replace everything by a saved state."""
    platform, name = platform_of(request), request.scope["form"].get("name", "")
    await run_in_threadpool(archive.restore, platform, state_views.file_of(platform, name))
    journal = request.app.state.journal
    assert isinstance(journal, Journal)
    journal.clear()
    return back(request, link("state"), f"{name} is restored; switches are off, trainers start anew")


async def _delete(request: Request) -> Response:
    """Delete a saved state."""
    name = request.scope["form"].get("name", "")
    state_views.file_of(platform_of(request), name).unlink()
    return back(request, link("state"), f"{name} is deleted")


async def _upload(request: Request) -> Response:
    """Keep an archive that a browser sends; one that cannot be read is refused and not kept."""
    platform, name = platform_of(request), request.query_params.get("name", "")
    target = state_views.file_of(platform, name, there=False)
    if target.exists():
        raise InvalidArgument(f"{name} is there already: rename your file")
    staged = platform.blobs.stage()
    try:
        with (staged / name).open("wb") as file:
            async for chunk in request.stream():
                file.write(chunk)
        await run_in_threadpool(archive.Archive.open, staged / name)
        target.parent.mkdir(exist_ok=True)
        shutil.move(staged / name, target)
    finally:
        platform.blobs.discard(staged)
    return back(request, link("state"), f"{name} is here: restore it, or compare it with what there is")


async def _chat(request: Request, name: str) -> Response:
    """Ask a model or a deployment as a client does, with what was said before."""
    form = request.scope["form"]
    turns, text = chat_views.turns(form.get("turns", "")), form.get("text", "").strip()
    if not text:
        return chat_page(request, name, turns)
    asked = [*turns, chat_views.Turn("user", text)]
    plain = form.get("form") == "text"
    path, sent = chat_views.request(name, asked, plain=plain)
    told = await ask(request, "POST", path, key_of(request, name.split("/")[1]), sent)
    if not told.ok:
        return chat_page(request, name, turns, f"refused (HTTP {told.status}): {told.message}", text, plain)
    return chat_page(request, name, [*asked, chat_views.answer(told.json)], plain=plain)


def chat_page(
    request: Request, name: str, turns: "list[chat_views.Turn]", refused: str = "", text: str = "", plain: bool = False
) -> Response:
    """The page of a conversation."""
    here = "deployments" if "/deployments/" in name else "models"
    shown: dict[str, Any] = {"name": name, "turns": turns, "refused": refused, "text": text, "plain": plain}
    return page(request, "chat.html", here, kept=chat_views.kept(turns), **shown)


def _words(request: Request) -> str:
    return str(request.scope["form"].get("words", ""))


def key_of(request: Request, account: str) -> str:
    """The key of an account's clients, the emulator's own for whatever else there is."""
    access = request.app.state.access
    assert isinstance(access, Access)
    return access.key_of(account)


def _table(*rows: tuple[str, Action]) -> tuple[tuple[re.Pattern[str], Action], ...]:
    return tuple((re.compile(pattern), handler) for pattern, handler in rows)


_OWNER = "(?P<owner>accounts/[^/]+/(?:rlorTrainerJobs|trainingSessions)/[^/]+)"
POST = _table(
    (f"promote/{_OWNER}/checkpoints/(?P<checkpoint>[^/]+)", _promote),
    (f"preempt/{_OWNER}", _preempt),
    (f"resume/{_OWNER}", _resume),
    ("failures/on", _quirk_on),
    ("failures/off", _quirk_off),
    ("failures/profile", _profile),
    ("clock", _clock),
    ("state/save", _save),
    ("state/restore", _restore),
    ("state/delete", _delete),
    ("state/upload", _upload),
    ("chat/(?P<name>accounts/[^/]+/(?:models|deployments)/[^/]+)", _chat),
)
