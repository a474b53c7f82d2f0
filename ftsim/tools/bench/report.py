"""Runs measurements and prints them."""

import contextlib
import json
import logging
import sys
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from importlib import import_module

from ftsim.tools.bench.measure import Measurement, Result

GROUPS = {
    "steps": ("sdk_step", "sdk_step_lora", "loss_steps", "router_replay"),
    "tinker": ("tinker_protobuf",),
    "saves": (
        "save_state",
        "save_sampler",
        "save_sampler_40mb",
        "save_sampler_folder",
        "load_state",
        "save_delta",
        "save_delta_40mb",
        "save_delta_folder",
    ),
    "durability": ("durable_save_40mb", "durable_save", "digest_overhead", "fixture_reset", "start_10000_rows"),
    "control": ("start_up", "list_10000_rows", "control_plane_get"),
    "console": ("console_page", "console_step"),
    "sampling": ("sample_16", "sample_32x64", "streams", "long_prompt_gap", "zoo_folder_open"),
    "serving": ("hot_load_delta", "hot_load_delta_40mb", "hot_load_delta_open", "concurrent_completions"),
    "data": ("data_check", "sft_prepare", "data_tokens", "data_memory"),
    "runs": ("rl_step", "sft_run"),
    "waiting": ("fast_forward",),
    "jobs": ("two_jobs",),
    "groups": ("group_step", "group_save", "group_memory"),
    "sizes": ("loss_head", "loss_head_memory", "save_memory"),
    "beside": ("save_beside",),
}
"""Modules of ftsim.tools.bench, and the measurements in each: functions of the same name."""


def show(only: Sequence[str], *, as_json: bool = False, listing: bool = False) -> int:
    """Measure and print; 0 when every target is met."""
    names = [name for group in GROUPS.values() for name in group]
    if listing:
        print("\n".join(names))
        return 0
    if names_none(only, names):
        return 2
    results = []
    for result in measure(only or names):
        results.append(result)
        if not as_json:
            print(line(result), flush=True)
    if as_json:
        print(json.dumps({"results": [plain(result) for result in results]}, indent=1))
    return 0 if all(result.ok is not False for result in results) else 1


def names_none(asked: Sequence[str], known: Collection[str], what: str = "there is no measurement {!r}") -> bool:
    """Say that the first unknown name is none, if there is one."""
    unknown = next((name for name in asked if name not in known), None)
    if unknown is not None:
        print(f"ftsim: {what.format(unknown)}; there are {', '.join(known)}", file=sys.stderr)
    return unknown is not None


def measure(names: Sequence[str]) -> Iterator[Result]:
    """The results of the named measurements, in their own order."""
    from ftsim.tools.bench.stand import Stand

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with contextlib.closing(Stand()) as stand:
        for group, members in GROUPS.items():
            for name in members:
                if name in names:
                    take: Measurement = getattr(import_module(f"ftsim.tools.bench.{group}"), name)
                    yield from take(stand)


def plain(result: Result) -> dict[str, object]:
    return asdict(result) | {"ok": result.ok}


def line(result: Result) -> str:
    """`name  1.23 x  (target <= 1.4)  ok  emulated_ms 12.3, bare_ms 10.0`."""
    sign = ">=" if result.more_is_better else "<="
    parts = ", ".join(f"{name} {value:.{1 if value >= 10 else 2}f}" for name, value in result.parts.items())
    verdict = {True: "ok", False: "MISSED", None: ""}[result.ok]
    bound = f"{sign} {result.target:g}" if result.target is not None else ""
    return f"{verdict:<6} {result.name:<24} {result.value:8.2f} {result.unit:<4} {bound:<8} {parts}".rstrip()
