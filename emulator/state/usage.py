"""Tokens that were computed within an hour, for one account, model and whatever they were computed on."""

from dataclasses import dataclass
from functools import cached_property

METERS = ("prefilled", "cached", "sampled", "trained")
"""The counters, in the order in which they are billed: tokens of prompts that were computed, and that were taken from
a cache, tokens that were drawn, and tokens of the data that gradients were computed for."""


@dataclass
class Usage:
    """Counters of tokens, and of requests that brought them; `hour` is when it began, in microseconds.

    `series` is SERVERLESS, DEDICATED_DEPLOYMENT or TRAINING, `place` the full name of the deployment, job or session,
    "" for a model that is named alone.
    """

    account: str
    created: int
    hour: int
    series: str
    place: str
    model: str
    requests: int = 0
    prefilled: int = 0
    cached: int = 0
    sampled: int = 0
    trained: int = 0

    @cached_property
    def name(self) -> str:
        return f"accounts/{self.account}/usage/{self.hour}/{self.series}/{self.place}/{self.model}"
