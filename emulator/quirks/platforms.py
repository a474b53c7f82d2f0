"""Platforms by date: what each had other switches for than the newest, whose values are the switches' own defaults.

A platform stands beneath what anybody sets: a setting of a switch wins, and turning it off brings back the platform's.
What is on which date is docs/wire.md's table; [G] there means that a date or a value is inferred.
"""

from collections.abc import Mapping
from typing import Any

from emulator.core.catalogue import PLATFORMS
from emulator.quirks import deployments, jobs, loads, promotion, rows, saves, trainers
from emulator.quirks.engine import Quirk

ALIASES = {"april-2026": PLATFORMS[0]}
APRIL: Mapping[Quirk[Any], Any] = {
    rows.KEY_STYLE: "rlorTrainerJobCheckpoints",
    rows.AVAILABILITY: "",
    rows.RESTORE_REFERENCE: "none",
    saves.ON_DUPLICATE: "overwrite",
    saves.SERVERLESS_NAMES_MAX_LEN: 0,
    loads.SAMPLER_PATH_KILLS_TRAINER: True,
    trainers.SESSIONS_CREATE: "destructive",
    trainers.SESSIONS_QUOTA: 0,
    trainers.UNLOAD_CLEARS_REQUEST_STATE: True,
    trainers.RPC_DEDUPE: False,
    jobs.INACTIVITY_S: 3600.0,
    jobs.WARM_START_LORA: "ignored",
    promotion.ASYNC: "unsupported",
    promotion.BASE_MODEL: "inferred",
    deployments.VALIDATION_SKIP: True,
    deployments.HOTLOAD_RESET_PROMPT_CACHE: "reject",
    deployments.HOTLOAD_STALE_ERROR_READS: 1,
    deployments.HOTLOAD_VALIDATION: "reject",
    deployments.HOTLOAD_LEDGER: False,
    deployments.INFERENCE_STREAM_MODEL: "deployment",
}
VALUES: Mapping[str, Mapping[Quirk[Any], Any]] = dict(zip(PLATFORMS, (APRIL, {}, {}), strict=True))
