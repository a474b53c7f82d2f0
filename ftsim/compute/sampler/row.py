"""A request on its way through the engine."""

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from random import Random

from emulator.backend import GeneratedToken, GenerateRequest, Generation, Tell
from ftsim.compute.sampler.speech import Speech


@dataclass
class Row:
    """What the engine knows of one request; `tell` hears of its tokens as they come, with the text of `speech`."""

    request: GenerateRequest
    future: "Future[Generation]"
    random: Random
    limit: int
    """Tokens that may be generated before the context is full or max_tokens is reached."""
    arrived: float
    crowd: int
    tell: Tell | None = None
    speech: Speech | None = None
    tokens: list[GeneratedToken] = field(default_factory=list)
    prompt_rows: list[GeneratedToken] = field(default_factory=list)
    shared: bool = False
    prefill_started: float = 0.0
    prefilled: float = 0.0
    first: float = 0.0

    @property
    def tail(self) -> int:
        """How many last tokens can hold a stop string that ends in the newest one."""
        return max((len(stop.encode()) for stop in self.request.stop), default=0) + 4

    def metrics(self) -> dict[str, float]:
        """Measured seconds and counts, by the names of WIRE 3.1."""
        now = time.perf_counter()
        return {
            "num-concurrent-requests": self.crowd,
            "prefill-queue-duration": self.prefill_started - self.arrived,
            "prefill-duration": self.prefilled - self.prefill_started,
            "generation-queue-duration": 0.0,
            "generation-duration": now - self.prefilled,
            "server-time-to-first-token": (self.first or now) - self.arrived,
            "server-processing-time": now - self.arrived,
            "prompt-tokens": len(self.request.prompt),
            "cached-prompt-tokens": len(self.request.prompt) if self.shared else 0,
        }
