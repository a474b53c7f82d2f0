"""The names of `training.sampling.rewards`, where programs written for the service import them."""

from ftsim.training.sampling.rewards import (
    answer_of as answer_of,
    exact_match as exact_match,
    field_of as field_of,
    has_signal as has_signal,
    keep_all as keep_all,
    resolve as resolve,
)
