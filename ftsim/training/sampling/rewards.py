"""Rewards and filters: plain functions, named in a configuration as "module:function" or given to `main`."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from ftsim.training.errors import ConfigError, DataError
from ftsim.training.sampling.rollouts import Group


def exact_match(completion: str, row: Mapping[str, Any]) -> float:
    """Returns 1 when the answer is the row's `ground_truth` and nothing else, else 0."""
    truth = field_of(row, "ground_truth")
    # A table without a value somewhere in a column of integers holds them as floats: 4.0 is said as 4, or as 4.0.
    whole = [str(int(truth))] if isinstance(truth, float) and truth.is_integer() else []
    return float(answer_of(completion) in [str(truth).strip(), *whole])


def field_of(row: Mapping[str, Any], name: str) -> Any:
    """Returns a field of a row that whoever pays cannot do without; raises `DataError`."""
    if name not in row:
        raise DataError(f"a row of the data set lacks {name!r}, by which answers are rewarded; it has {sorted(row)}")
    return row[name]


def answer_of(completion: str) -> str:
    """Returns what is said after the thought, if there is one."""
    return completion.rpartition("</think>")[2].strip()


def has_signal(group: Group) -> bool:
    """Returns True when the rewards of a group differ; equal ones give all samples the advantage 0."""
    return len(set(group.rewards)) > 1


def keep_all(group: Group) -> bool:
    """Train on every group."""
    return True


def resolve(reference: str, field: str) -> Callable[..., Any]:
    """Returns the function that "module:function" names; `ConfigError` when there is none."""
    module, colon, name = reference.partition(":")
    if not colon:
        raise ConfigError(f"{field} {reference!r} is not 'module:function'")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{field} {reference!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigError(f"{field} {reference!r} is no function")
    return found  # type: ignore[no-any-return]
