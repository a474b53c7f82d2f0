"""Holds every limit on what one request may cost, in one table, which docs/limits.md shows."""

from typing import NamedTuple

MIB = 1024**2


class Limit(NamedTuple):
    """A bound: how much, of what, what is answered beyond it."""

    value: int
    of: str
    answer: str


BODY = Limit(256 * MIB, "bytes of a request body", "413")
PARSED = Limit(
    384 * MIB,
    "bytes of memory that one parsed body may take, by an estimate, or a quarter of what is free",
    "413",
)
PARSED_SHARE = Limit(2, "the part of the free memory that all bodies together may take is one in so many", "503")
PROMPTS = Limit(128, "prompts of a completion", "400")
INPUTS = Limit(2048, "inputs of an embeddings request", "400")
CHOICES = Limit(128, "`n`, choices of a prompt", "400")
ALL_CHOICES = Limit(1024, "choices of a request: `n` times its prompts", "400")
TOPS = Limit(20, "`top_logprobs`, or `logprobs` as a number", "400")
ALL_TOPS = Limit(512, "choices of a request times their `top_logprobs`", "400")
STOPS = Limit(16, "stop strings", "400")
STOP_LENGTH = Limit(1024, "characters of a stop string", "400")
LOGIT_BIAS = Limit(300, "entries of `logit_bias`", "400")
IMAGES = Limit(16, "images of a request for completions", "400")
IMAGE_BYTES = Limit(8 * MIB, "bytes of an image", "400, or the future fails")
IMAGE_PIXELS = Limit(2 * MIB, "pixels of an image", "400, or the future fails")
TEMPLATE_S = Limit(1, "seconds that the chat template of a folder behind a name may compute", "400")
TEMPLATE_MEMORY = Limit(256 * MIB, "bytes of memory that it may take meanwhile (where the system limits them)", "400")
HEAD_S = Limit(20, "seconds without a byte of a request whose head is not whole", "the connection is closed")
BODY_S = Limit(30, "seconds without a byte of a body that is on its way", "the connection is closed")
KEEP_S = Limit(75, "seconds between two requests of a connection", "the connection is closed")
DESCRIPTORS = Limit(
    16,
    "descriptors that are left to the work that was accepted; new connections close the one that is idle longest",
    "503 where none is idle",
)
ARCHIVE = Limit(16 * 1024 * MIB, "bytes that an archive unpacks to", "400")
ARCHIVE_RATIO = Limit(200, "bytes that a byte of an archive unpacks to, beyond the first MiB", "400")
UPLOAD = Limit(1024 * 1024 * MIB, "bytes of all files of an uploaded model", "400")
UPLOAD_FILES = Limit(2_000, "files of an uploaded model", "400")
ARCHIVE_FILES = Limit(200_000, "files of an archive", "400")

TABLE = {name: limit for name, limit in list(globals().items()) if isinstance(limit, Limit)}


def table() -> list[str]:
    """The rows of the table in docs/limits.md."""
    return [f"| `{name}` | {limit.value:,} | {limit.of} | {limit.answer} |" for name, limit in TABLE.items()]
