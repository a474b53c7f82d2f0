"""The quirks of loading checkpoints into a model."""

from emulator.quirks.engine import JOB, Quirk

SAMPLER_PATH_KILLS_TRAINER = Quirk(
    "load.sampler_path_kills_trainer",
    JOB,
    False,
    "Loading sampler weights as a state fails the job.",
    failures=("C1",),
)
DROP_OPTIMIZER = Quirk(
    "load.drop_optimizer",
    JOB,
    False,
    "A load with optimizer leaves the moments out, silently.",
    failures=("C6",),
)
DEFAULT_OPTIMIZER = Quirk(
    "load.default_optimizer",
    JOB,
    False,
    "What a load without the optimizer flag means.",
    failures=("C7",),
)
WEIGHTS_ONLY = Quirk(
    "load.weights_only",
    JOB,
    "reset",
    "A load without optimizer starts the moments anew, or leaves those there are.",
    failures=("C8",),
    choices=("reset", "keep"),
)
FIRST_REQUEST_ONLY = Quirk(
    "load.first_request_only",
    JOB,
    False,
    "A load is allowed as a model's first request only.",
    failures=("C9",),
)
MISSING = Quirk(
    "load.missing",
    JOB,
    "error",
    "A load of a checkpoint that is not there: refused, or answered as done without loading anything.",
    failures=("C27",),
    choices=("error", "ignored"),
)
RESOLVES = Quirk(
    "load.resolves",
    JOB,
    "asked",
    "What a load from another job brings in: the state that was asked for, or that job's newest.",
    failures=("C28",),
    choices=("asked", "newest"),
)
