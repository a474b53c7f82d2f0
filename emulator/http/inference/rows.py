"""Log-probabilities of tokens, in the two forms of the vendor's types (WIRE 3.1)."""

import base64
from collections.abc import Callable, Sequence
from typing import Any

from emulator.backend import GeneratedToken

_FOLLOWS, _FOLLOWING = 0xC0, 0x80
"""A byte that continues a UTF-8 character has these two highest bits."""


class Rows:
    """The rows of one choice, from its first token on: offsets count characters of its text.

    `legacy` is the form that a number in `logprobs` asks for: a list for each field instead of a row for each token.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        *,
        legacy: bool = False,
        told: str = "both",
        routes: bool = True,
    ) -> None:
        """`told` is a value of the switch inference.logprobs: some servers know raw log-probabilities alone.

        Without `routes` they stand elsewhere, as files.
        """
        self._routes = routes
        self._decode = decode
        self._legacy = legacy
        self._told = told
        self._begun = 0
        self._texts: dict[int, str] = {}

    def of(self, tokens: Sequence[GeneratedToken]) -> dict[str, Any]:
        """`logprobs` of a choice or chunk that brings these tokens."""
        rows = [self._row(token) for token in tokens]
        if not self._legacy:
            return {"content": rows}
        tops = [{top["token"]: top["logprob"] for top in row.get("top_logprobs", ())} for row in rows]
        return {
            "tokens": [row["token"] for row in rows],
            "token_ids": [row["token_id"] for row in rows],
            "token_logprobs": [row["logprob"] for row in rows],
            "text_offset": [row["text_offset"] for row in rows],
            "top_logprobs": tops if any(tops) else None,
        }

    def _row(self, token: GeneratedToken) -> dict[str, Any]:
        raw = token.text.encode() if token.raw is None else token.raw
        within = bool(raw) and raw[0] & _FOLLOWS == _FOLLOWING  # the token goes on with a character begun before it
        # Some servers tell one log-probability, which is not that of the distribution sampled from (FAILURES E42).
        sampled = token.sampling_logprob if self._told == "both" else None
        body: dict[str, Any] = {
            "token": token.text,
            "token_id": token.token_id,
            "logprob": token.logprob,
            **({} if self._told == "raw_only" else {"sampling_logprob": sampled}),
            "bytes": list(raw),
            "text_offset": max(0, self._begun - within),
        }
        self._begun += sum(byte & _FOLLOWS != _FOLLOWING for byte in raw)
        if token.routing is not None and self._routes:
            body["routing_matrix"] = base64.b64encode(token.routing).decode()
        if token.top:
            body["top_logprobs"] = [
                {"token": self._text(token_id), "token_id": token_id, "logprob": logprob}
                for token_id, logprob in token.top
            ]
        return body

    def _text(self, token_id: int) -> str:
        if token_id not in self._texts:
            self._texts[token_id] = self._decode([token_id])
        return self._texts[token_id]
