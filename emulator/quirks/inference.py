"""The quirks of what a deployment answers: log-probabilities, routes of experts, prompts that a cache still holds."""

from emulator.quirks.engine import ANY, DEPLOYMENT, Quirk

LOGPROBS = Quirk(
    "inference.logprobs",
    DEPLOYMENT,
    "both",
    "Log-probabilities of a token: raw and as sampled, raw alone, or null for those as sampled.",
    failures=("E42",),
    choices=("both", "raw_only", "null_sampling"),
)
ROUTING = Quirk(
    "inference.routing",
    DEPLOYMENT,
    "all",
    "Routes of experts that were asked for: given, given for the first request of a session, left out, or refused.",
    failures=("E39", "E41"),
    choices=("all", "first_turn", "none", "refused"),
)
ROUTING_FORMAT = Quirk(
    "routing.trainer_format",
    ANY,
    "base64_inline",
    "How a trainer says that it takes routes: inline, or also as files in a store that samplers write to.",
    failures=("E40",),
    choices=("base64_inline", "parquet_v1"),
)
ROUTES_AS_FILES = Quirk(
    "inference.routing_format",
    DEPLOYMENT,
    "base64_inline",
    "Routes that are kept as files: a replica refuses the field that asks for them, or writes them.",
    failures=("E40",),
    choices=("base64_inline", "parquet_v1"),
)
ROUTES_TTL_S = Quirk(
    "routing.ttl_s",
    ANY,
    21600.0,
    "Seconds that a file of routes is kept where the request does not say.",
    failures=("E40",),
)
CAPACITY = Quirk(
    "inference.capacity",
    DEPLOYMENT,
    0,
    "How many requests a deployment or sampler answers at a time, one more is refused (429); 0 is no limit.",
    failures=("H2", "G8"),
)
PREFIX_CACHE = Quirk(
    "hotload.prefix_cache",
    DEPLOYMENT,
    "none",
    "Prompts that a replica has computed: computed anew, or kept and gone on from as reset_prompt_cache allows.",
    failures=("E28",),
    choices=("none", "kept"),
)
RDMA = Quirk(
    "hotload.rdma",
    ANY,
    "off",
    "Direct transfer of weights: offered by nobody, by the trainer alone, or by trainer and replicas.",
    failures=("E34",),
    choices=("off", "one_side", "on"),
)
