"""Chat templates: our own are rendered here, those of other folders by a process with bounds (`render.py`)."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.backend import BackendError
from emulator.core.limits import TEMPLATE_MEMORY, TEMPLATE_S
from ftsim.compute.models.families import FAMILIES, chat_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROGRAM = Path(__file__).with_name("render.py")
_WAIT_S = 60.0
"""Seconds of waiting for a process that starts, or is kept from computing by others: a safety net."""


class ChatTemplates:
    """The templates of one tokenizer; a folder's own are programs, which may compute for ever or fill the memory."""

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        longest: int,
        *,
        seconds: float = TEMPLATE_S.value,
        memory: int = TEMPLATE_MEMORY.value,
    ) -> None:
        """`longest` is the most characters that a prompt may have; `seconds` and `memory` (bytes) bound a rendering."""
        self._tokenizer = tokenizer
        self._longest = longest
        self._renderer = _Renderer(seconds, memory)

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]
    ) -> str:
        """The text of a conversation with the beginning of an answer; raises `BackendError` when it is refused."""
        said = [{key: value for key, value in message.items() if value is not None} for message in messages]
        given = [dict(tool) for tool in tools] or None
        try:
            template = str(self._tokenizer.get_chat_template(None, given))
            if template in _shipped():
                return str(
                    self._tokenizer.apply_chat_template(
                        said, tools=given, add_generation_prompt=True, tokenize=False, **variables
                    )
                )
        except Exception as error:  # templates raise whatever they like
            raise refusal(str(error)) from error
        if not said:
            raise refusal("a conversation has at least one message")
        answer = self._renderer.ask(
            {
                "messages": said,
                "tools": given,
                "template": template,
                "variables": {**self._tokenizer.special_tokens_map, **variables},
                "longest": self._longest,
            }
        )
        if "length" in answer:
            raise BackendError(
                f"The prompt is too long: the chat template makes {answer['length']} characters of these messages, and "
                f"the context could hold {self._longest} at the longest tokens: send less"
            )
        if "error" in answer:
            raise refusal(answer["error"])
        return str(answer["text"])

    def close(self) -> None:
        """End the process that renders, if there is one."""
        self._renderer.close()


class _Renderer:
    """The process that renders, from its first use on; one that went too far is replaced by a new one."""

    def __init__(self, seconds: float, memory: int) -> None:
        self._seconds = seconds
        self._memory = memory
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Connection | None = None
        self._lock = threading.Lock()

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer; raises `BackendError` when there is none within the bounds."""
        bounds = {"seconds": self._seconds, "memory": self._memory}
        with self._lock:
            try:
                if self._channel is None:
                    self._start()
                assert self._channel is not None
                self._channel.send_bytes(json.dumps({**question, **bounds}).encode())
                if not self._channel.poll(_WAIT_S):
                    raise TimeoutError
                return dict(json.loads(self._channel.recv_bytes()))
            except (EOFError, OSError) as error:
                raise refusal(self._why(error)) from error

    def close(self) -> None:
        """End it, whatever it does."""
        process = self._process
        if process is not None:
            process.kill()
        with self._lock:
            self._end()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(_PROGRAM), json.dumps(sys.path)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            )
            self._channel = Connection(ours.detach())

    def _why(self, error: Exception) -> str:
        """The reason why it gave no answer; it is gone then."""
        ended = self._end()
        if isinstance(error, TimeoutError):
            return f"it gave no answer for {_WAIT_S:g} s"
        if ended == -signal.SIGPROF:
            return f"it computes for more than {self._seconds:g} s"
        return f"the process that renders it ended ({ended}): it may take {self._memory:,} bytes of memory"

    def _end(self) -> int | None:
        """End and forget it; how it ended, where it did so by itself."""
        process, channel = self._process, self._channel
        self._process = self._channel = None
        if channel is not None:
            channel.close()
        if process is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            return process.wait(1.0)
        process.kill()
        return process.wait()


@cache
def _shipped() -> frozenset[str]:
    """The templates of the models that ftsim ships: ours, and linear in what they are given."""
    return frozenset(map(chat_template, FAMILIES))


def refusal(reason: str) -> BackendError:
    """Tell a client that a template does not take its messages."""
    return BackendError(f"the chat template refuses these messages: {reason}")
