"""Holds the grammar of resource names: accounts, models, jobs, checkpoints, deployments, operations (WIRE 1, 5.1, 5.2).

The grammar is strict on purpose: a full name where a short id is wanted does not resolve (FAILURES A16).
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from emulator.core.errors import InvalidArgument

_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MODEL_ID = re.compile(r"[a-z0-9-]{1,63}")
_CATALOGUE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CHECKPOINT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CROSS_JOB = re.compile(r"cross_job://([^/]+)/([^/]+)")
_RUN_PATH = re.compile(r"([^/]+)/(run-[0-9a-f]{32})/([^/]+)")


class Subject(NamedTuple):
    """Says whom a call or an entity is about, by short ids, so that quirks can be selected. None: not known here.

    `job` is also a training session, `checkpoint` also the identity of a snapshot that a replica loads.
    """

    account: str | None = None
    job: str | None = None
    deployment: str | None = None
    checkpoint: str | None = None
    endpoint: str | None = None


class OwnerName(NamedTuple):
    """The full name of a job or training session, `accounts/{account}/{collection}/{id}`, in its parts."""

    account: str
    collection: str
    id: str

    @classmethod
    def parse(cls, name: str) -> "OwnerName":
        """Take a name apart that the platform made; an id that a client sent may have slashes, which stay in it."""
        _, account, collection, identifier = name.split("/", 3)
        return cls(account, collection, identifier)

    def __str__(self) -> str:
        return f"accounts/{self.account}/{self.collection}/{self.id}"

    @property
    def subject(self) -> Subject:
        """Say what the quirks of the job or session are selected by."""
        return Subject(account=self.account, job=self.id)


@dataclass(frozen=True)
class Reference:
    """Names what load_weights was given: a checkpoint's name, and the job or (account and) run that saved it.

    None for both: the asking model's own.
    """

    checkpoint: str
    job: str | None = None
    run: tuple[str, str] | None = None


@dataclass(frozen=True)
class CheckpointScope:
    """Says where a model's saves are listed: among its owner's rows, after the name of its run, if any (WIRE 5.1)."""

    owner: str
    run: str = ""

    @cached_property
    def lister(self) -> OwnerName:
        """The job or training session that lists them."""
        return OwnerName.parse(self.owner)

    @property
    def account(self) -> str:
        return self.lister.account

    @property
    def owner_id(self) -> str:
        """The short id of the job or training session."""
        return self.lister.id

    def subject(self, name: str) -> Subject:
        """Say what the quirks of a save of this name are selected by."""
        return Subject(account=self.lister.account, job=self.lister.id, checkpoint=name)

    def ids(self, *names: str) -> list[tuple[str, ...]]:
        """The ids that saves of these names may be listed under: with a dash, then with a colon as older planes did."""
        return [tuple(f"{self.run}{sign}{name}" for name in names) for sign in "-:"] if self.run else [names]

    def path(self, name: str) -> str:
        """Build the path that a save answers, and load_weights takes."""
        return f"{self.account}/{self.run}/{name}" if self.run else name


def resource(account: str, collection: str, identifier: str) -> str:
    """Build `accounts/{account}/{collection}/{identifier}`."""
    return f"accounts/{account}/{collection}/{identifier}"


def split_resource(name: str, collection: str) -> tuple[str, str]:
    """Account and id of a full resource name; raises InvalidArgument when it is not one of `collection`."""
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != "accounts" or parts[2] != collection or not parts[1] or not parts[3]:
        raise InvalidArgument(f"invalid resource name {name[:200]!r}: expected accounts/<account>/{collection}/<id>")
    return parts[1], parts[3]


def check_dns_label(identifier: str, what: str) -> str:
    """1 to 63 of a-z, 0-9 and inner hyphens; raises InvalidArgument."""
    if not _DNS_LABEL.fullmatch(identifier):
        raise InvalidArgument(
            f"invalid {what} {identifier[:80]!r}: use 1 to 63 lowercase letters, digits and hyphens, "
            "beginning and ending with a letter or digit"
        )
    return identifier


def split_output(name: str, rule: str = "sdk") -> tuple[str, str]:
    """Account and id of the model that a promotion is to make; `rule` is `sdk` or `dns_label` (FAILURES D4)."""
    account, identifier = split_resource(name, "models")
    return account, check_model_id(identifier, rule)


def check_model_id(identifier: str, rule: str = "sdk") -> str:
    """The id of a model that somebody makes; `rule` is `sdk` or `dns_label` (FAILURES D4)."""
    if rule == "dns_label":
        return check_dns_label(identifier, "model id")
    if not _MODEL_ID.fullmatch(identifier):
        raise InvalidArgument(
            f"invalid model id {identifier[:80]!r}: use 1 to 63 lowercase letters, digits and hyphens"
        )
    return identifier


def check_catalogue_id(identifier: str, what: str) -> str:
    """Ids of shapes, versions and shared models; raises InvalidArgument."""
    if not _CATALOGUE_ID.fullmatch(identifier):
        raise InvalidArgument(f"invalid {what} {identifier[:80]!r}")
    return identifier


def check_checkpoint_name(name: str, *, strict: bool = False, longest: int = 128) -> str:
    """A name that can be a folder; `strict` also demands what the SDK's load side does (FAILURES B3)."""
    if not _CHECKPOINT.fullmatch(name) or ".." in name or len(name) > longest:
        raise InvalidArgument(
            f"invalid checkpoint name {name[:80]!r}: use 1 to {longest} letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit"
        )
    return check_dns_label(name, "checkpoint name") if strict else name


def is_loadable(name: str) -> bool:
    """Say whether the SDK's load side accepts this checkpoint name (FAILURES B3, B4)."""
    return _DNS_LABEL.fullmatch(name) is not None


def is_account(identifier: str) -> bool:
    return _ACCOUNT.fullmatch(identifier) is not None


def parse_reference(path: str) -> Reference:
    """The forms of WIRE 5.2 that a trainer accepts; raises InvalidArgument for every other."""
    if match := _CROSS_JOB.fullmatch(path):
        check_dns_label(match[1], "job id")
        return Reference(check_checkpoint_name(match[2]), job=match[1])
    if match := _RUN_PATH.fullmatch(path):
        return Reference(check_checkpoint_name(match[3]), run=(match[1], match[2]))
    if "/" in path or ":" in path:
        raise InvalidArgument(
            f"cannot load {path[:120]!r}: give a checkpoint name of this job or run; of another one "
            "cross_job://<job-id>/<name> (dedicated trainers), <account>/run-<32 hex digits>/<name> (serverless)"
        )
    return Reference(check_checkpoint_name(path))
