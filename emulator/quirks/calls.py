"""The quirks of any call: faults of the connection, error bodies, what the key of the caller is good for."""

from emulator.quirks.engine import ACCOUNT, ANY, CALL, Quirk

INFERENCE_ONLY = Quirk(
    "auth.inference_only",
    ACCOUNT,
    False,
    "The caller's key is good for inference and for nothing else (401).",
    failures=("F18",),
)
ACCOUNTS_LISTED = Quirk(
    "accounts.listed",
    ACCOUNT,
    "one",
    "How many accounts the caller's key seems to belong to.",
    failures=("F18",),
    choices=("one", "none", "two"),
)
FAIL = Quirk(
    "http.fail",
    CALL,
    0,
    "The endpoint answers this status and does nothing.",
    failures=("A15", "B7", "F16"),
    bounds=(400, 599),
)
LOSE_REPLY = Quirk(
    "http.lose_reply",
    CALL,
    "",
    "The connection breaks, before or after the request was carried out.",
    failures=("B2", "F6", "F13"),
    choices=("", "before", "after"),
)
APPLY_THEN_FAIL = Quirk(
    "http.apply_then_fail",
    CALL,
    0,
    "The request is carried out, and the endpoint answers this status.",
    failures=("D6", "D7", "F6"),
    bounds=(400, 599),
)
RESET = Quirk(
    "http.reset",
    CALL,
    "",
    "The connection is reset (RST), before or after the request was carried out.",
    failures=("B2", "F6", "F13"),
    choices=("", "before", "after"),
)
CUT_BODY = Quirk(
    "http.cut_body",
    CALL,
    -1,
    "The answer's body ends after so many bytes, and with it the connection; -1 never.",
    failures=("E23",),
)
SLOW_BODY_S = Quirk(
    "http.slow_body_s",
    CALL,
    0.0,
    "Real seconds that the answer's body takes to arrive.",
    failures=("F16",),
)
DELAY_S = Quirk(
    "http.delay_s",
    CALL,
    0.0,
    "Real seconds before a request is looked at.",
    failures=("F16",),
)
ERRORS_STYLE = Quirk(
    "errors.style",
    ANY,
    "status",
    "The shape of error bodies on the control plane.",
    failures=("F17",),
    choices=("status", "error_object", "detail", "text"),
)
