"""The quirks of money: what a million tokens cost in the billing summary, in US dollars."""

from emulator.quirks.engine import ACCOUNT, Quirk

PREFILLED = Quirk(
    "billing.prefill_usd",
    ACCOUNT,
    1.86,
    "Dollars for a million tokens of prompts that were computed (seen for one model, taken for all).",
)
CACHED = Quirk(
    "billing.cached_usd",
    ACCOUNT,
    0.372,
    "Dollars for a million tokens of prompts that were taken from a cache (seen for one model, taken for all).",
)
SAMPLED = Quirk(
    "billing.sample_usd",
    ACCOUNT,
    5.595,
    "Dollars for a million tokens that were drawn (seen for one model, taken for all).",
)
TRAINED = Quirk(
    "billing.train_usd",
    ACCOUNT,
    4.103,
    "Dollars for a million tokens of data that gradients were computed for (seen for one model, taken for all).",
)
