"""Weights that clients of tinker take away: the files of a save, each sealed by age where a client asks for it.

`save_weights_external` writes an adapter as PEFT has it; `external_weights_urls` gives a link to each of its files, and
`archive` one to all files of an adapter together.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from emulator.core.errors import FailedPrecondition, InvalidArgument, NotFound
from emulator.core.kinds import resumable
from emulator.platform.checkpoints.checkpoints import Checkpoints
from emulator.platform.models.links import Links
from emulator.platform.trainers.native import NativeRuns, kind
from emulator.state.blobs import RECORD
from emulator.state.entities import Checkpoint

EXTERNAL = "external"
"""The word by which a row says how it was saved."""
SEALED = ".age"
ARCHIVE = "checkpoint.tar"
MOST_RECIPIENTS = 10
_ROOT = "/tinker/api/v1/checkpoint_files"


def sealer(recipients: object) -> Callable[[Path], None] | None:
    """Say how files are sealed for age recipients, None where there are none.

    Raises InvalidArgument for one that cannot be read, too many of them, and where no age is installed.
    """
    if recipients is None or recipients == []:
        return None
    if not isinstance(recipients, list) or len(recipients) > MOST_RECIPIENTS:
        raise InvalidArgument(f"age_encryption_recipients is a list of at most {MOST_RECIPIENTS} public keys")
    try:
        import pyrage
    except ImportError:
        raise InvalidArgument(
            "age_encryption_recipients: files are sealed by pyrage, which is not installed here: "
            "pip install 'ftsim-emulator[tinker]', or save without recipients"
        ) from None
    keys = [_recipient(pyrage, one) for one in recipients]

    def seal(folder: Path) -> None:
        for file in sorted(path for path in folder.iterdir() if path.is_file()):
            pyrage.encrypt_file(str(file), f"{file}{SEALED}", keys)
            file.unlink()

    return seal


def _recipient(pyrage: Any, text: object) -> Any:
    """A native key or one of SSH; raises InvalidArgument."""
    for read in (pyrage.x25519.Recipient.from_str, pyrage.ssh.Recipient.from_str):
        try:
            return read(text)
        except (pyrage.RecipientError, TypeError):
            continue
    raise InvalidArgument(f"age_encryption_recipients: {str(text)[:80]!r} is neither an age1... key nor one of SSH")


class ExternalWeights:
    """The files of saves behind signed links."""

    def __init__(self, links: Links, runs: NativeRuns, checkpoints: Checkpoints) -> None:
        self._links = links
        self._runs = runs
        self._checkpoints = checkpoints

    def links(self, account: str, path: str) -> dict[str, str]:
        """File name to path and query, for every file of an external save; raises InvalidArgument, NotFound."""
        row = self._runs.row(account, path)
        if kind(row) != "external_weights":
            raise InvalidArgument(f"{path[:120]!r} is not to be taken away: save it with save_weights_external")
        return {file.name: self._link(account, path, file.name) for file in self._files(row)}

    def archive(self, account: str, path: str) -> str:
        """The link to one file that holds an adapter; raises FailedPrecondition for a training state, NotFound."""
        if resumable(self._runs.row(account, path).kind):
            raise FailedPrecondition(
                f"{path[:120]!r} is a training state, whose optimizer is no use elsewhere: take the archive of what "
                "save_weights_for_sampler saved"
            )
        return self._link(account, path, ARCHIVE)

    def files(self, account: str, path: str, name: str, expires: str, signature: str) -> Sequence[Path]:
        """The file behind a link, or all those of an archive; raises PermissionDenied, NotFound."""
        self._links.check(_path(account, path, name), expires, signature)
        found = self._files(self._runs.row(account, path))
        if name != ARCHIVE:
            found = [file for file in found if file.name == name]
        if not found:
            raise NotFound(f"{path[:120]!r} has no file {name[:120]!r}")
        return found

    def _files(self, row: Checkpoint) -> list[Path]:
        folder = self._checkpoints.folder(row)
        return sorted(path for path in folder.iterdir() if path.is_file() and path.name != RECORD)

    def _link(self, account: str, path: str, name: str) -> str:
        return self._links.signed(_path(account, path, name))


def _path(account: str, path: str, name: str) -> str:
    return f"{_ROOT}/{account}/{path.removeprefix('tinker://')}/{name}"
