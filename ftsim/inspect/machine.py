"""Looks at the machine that a program runs on: versions, the generation of the vendor's client, variables."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from urllib.parse import urlsplit

from emulator.journal.file import versions

EMULATOR_KEY = "fw-ftsim"
"""The beginning of keys that an emulator made."""
PACKAGES = ("ftsim-emulator", "fireworks-ai", "tinker", "tinker-cookbook", "torch", "transformers", "peft", "httpx")
_ADDRESSES = ("FIREWORKS_BASE_URL", "FIREWORKS_TRAINER_GATEWAY_URL", "TINKER_BASE_URL")
_KEYS = ("FIREWORKS_API_KEY", "TINKER_API_KEY")
_SHOWN = (*_ADDRESSES, *_KEYS, "FIREWORKS_ACCOUNT_ID", "FIREWORKS_CREDENTIAL_CMD", "HF_HUB_OFFLINE", "HF_HUB_CACHE")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
_GENERATIONS = (
    ((1, 2, 32), "1.2.32 or later: it sends reset_prompt_cache as a word (E27)"),
    ((1, 2, 25), "1.2.25 to 1.2.31: it has its own client core, tinker is not asked"),
    ((1, 2, 0), "1.2.0 to 1.2.24: its trainer calls go through the tinker package beside it"),
    ((0,), "before 1.2: the client of April 2026, for --platform 2026-04"),
)


@dataclass(frozen=True)
class Trouble:
    """A finding: what would be refused, or go elsewhere. `entry` is an id of the failure catalogue, or ""."""

    where: str
    entry: str
    sentence: str


@dataclass(frozen=True)
class Machine:
    """The machine as it is. `variables` are those that clients read, secrets only as `set`."""

    versions: Mapping[str, str]
    client: str
    variables: Mapping[str, str]
    troubles: tuple[Trouble, ...]


def look(environment: Mapping[str, str] | None = None, *, for_service: bool = False) -> Machine:
    """Look at this machine, for a program that asks an emulator, or the service."""
    variables = dict(os.environ if environment is None else environment)
    found = versions() | {name: version for name in PACKAGES if (version := _version(name))}
    shown = {name: _shown(name, variables[name]) for name in (*_SHOWN, *_PROXIES) if name in variables}
    client = generation(found.get("fireworks-ai", ""))
    if find_spec("training") is not None:
        client += "; a cookbook is installed (the package `training`)"
    troubles = (*_of_versions(found), *(_of_service(variables) if for_service else _of_emulator(variables)))
    return Machine(dict(sorted(found.items())), client, shown, troubles)


def generation(version: str) -> str:
    """Say what a release of fireworks-ai is, among those that behave differently."""
    if not version:
        return "none: fireworks-ai is not installed"
    parts = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    return next(what for least, what in _GENERATIONS if parts >= least)


def _of_versions(found: Mapping[str, str]) -> list[Trouble]:
    troubles = []
    if "fireworks-ai" not in found:
        troubles.append(
            Trouble("versions", "", "fireworks-ai is not installed: pip install 'fireworks-ai[training-sdk]'")
        )
    elif generation(found["fireworks-ai"]).startswith("1.2.0") and "tinker" not in found:
        troubles.append(
            Trouble("versions", "", f"fireworks-ai {found['fireworks-ai']} needs the package tinker beside it")
        )
    return troubles


def _of_emulator(variables: Mapping[str, str]) -> list[Trouble]:
    troubles = []
    if "FIREWORKS_CREDENTIAL_CMD" in variables:
        sentence = (
            "the client fetches a real credential with it and prefers it; `ftsim run` removes it, a shell does not"
        )
        troubles.append(Trouble("FIREWORKS_CREDENTIAL_CMD", "", sentence))
    bypassed = variables.get("NO_PROXY", variables.get("no_proxy", ""))
    proxy = next((name for name in _PROXIES if variables.get(name)), None)
    if proxy and not {"127.0.0.1", "localhost", "*"} & {one.strip() for one in bypassed.split(",")}:
        sentence = "requests to the emulator would go there: put 127.0.0.1,localhost into NO_PROXY, as `ftsim run` does"
        troubles.append(Trouble(proxy, "", sentence))
    return troubles


def _of_service(variables: Mapping[str, str]) -> list[Trouble]:
    troubles = []
    key = variables.get("FIREWORKS_API_KEY", "")
    if not key and "FIREWORKS_CREDENTIAL_CMD" not in variables:
        troubles.append(Trouble("FIREWORKS_API_KEY", "F18", "it is not set: the service asks for a key that may train"))
    elif key.startswith(EMULATOR_KEY) or "~" in key:
        troubles.append(Trouble("FIREWORKS_API_KEY", "F18", "it is the key of an emulator: start from a fresh shell"))
    for name in _ADDRESSES:
        if urlsplit(variables.get(name, "")).hostname in ("127.0.0.1", "localhost", "::1"):
            troubles.append(Trouble(name, "G9", "it leads to this machine: unset it, and the client asks the service"))
    pool = variables.get("TINKER_BASE_URL", "")
    if pool and not pool.rstrip("/").endswith("/training/v1/serverless"):
        troubles.append(
            Trouble("TINKER_BASE_URL", "G9", "sampling on the pool fails unless it ends in /training/v1/serverless")
        )
    if variables.get("HF_HUB_OFFLINE") not in (None, "", "0"):
        troubles.append(
            Trouble("HF_HUB_OFFLINE", "H4", "tokenizers come from the cache alone; those of `ftsim run` are stand-ins")
        )
    return troubles


def _shown(name: str, value: str) -> str:
    """The value of a variable, unless there may be a secret in it."""
    if name in _KEYS or name in _PROXIES or name == "FIREWORKS_CREDENTIAL_CMD":
        return "set" if value else "empty"
    return value


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
