"""The process of an engine: vLLM at the other end of a socket, stepped in one loop.

It runs in the Python that has vLLM, which need not be the emulator's, and imports nothing of ftsim. Weights and
adapters come between two steps, by the engine's own calls: `reload_weights`, and `add_lora` under an id that is never
used again.
"""

import json
import os
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process, so that this loop decides when it steps
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # a context has to hold one token more than the engine's
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TORCHDYNAMO_DISABLE": "1",  # compiling the count of a token's rank takes longer than a small model's answer
}
_USUAL = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
"""Unless the variable is set: GiB for keys and values, and threads that do not wait for each other on shared cores."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that the engine can be told to expect; an adapter of a lower one is padded."""


@dataclass
class Request:
    """A request on its way; `counts` are the tokens drawn so far."""

    asked: Mapping[str, Any]
    adapter: int | None
    counts: Counter[int] = field(default_factory=Counter)


class Program:
    """One engine, its requests, and the loads that wait for their turn."""

    def __init__(self, connection: "Connection[Any, Any]", engine: Any) -> None:
        self._connection = connection
        self._engine = engine
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._loads: deque[Mapping[str, Any]] = deque()
        self._running: dict[str, Request] = {}
        self._adapter: Any = None
        self._adapters = 0

    def serve(self) -> None:
        """Serve until the other end is closed."""
        while True:
            while self._connection.poll(None if self._idle else 0):
                self._hear(json.loads(self._connection.recv_bytes()))
            while self._loads and not self._must_drain(self._loads[0]):
                self._load(self._loads.popleft())
            while self._waiting and not self._loads:
                self._admit(self._waiting.popleft())
            if self._running:
                self._step()

    @property
    def _idle(self) -> bool:
        return not (self._running or self._waiting or self._loads)

    def _hear(self, message: Mapping[str, Any]) -> None:
        match message["op"]:
            case "generate":
                self._waiting.append(message)
            case "abort":
                self._waiting = deque(one for one in self._waiting if one["id"] != message["id"])
                if self._running.pop(message["id"], None) is not None:
                    self._engine.abort_request([message["id"]])
            case "load":
                self._loads.append(message)

    def _must_drain(self, load: Mapping[str, Any]) -> bool:
        """Tell whether requests that run have to finish first.

        An adapter's request keeps its adapter to the end, and the engine holds two: the newest, and the one before.
        """
        older = {request.adapter for request in self._running.values()} - {self._adapter and self._adapter.lora_int_id}
        return bool(self._running) if load["drain"] else bool(load["kind"] == "adapter" and older)

    def _load(self, load: Mapping[str, Any]) -> None:
        answer: dict[str, Any] = {"loaded": load["number"]}
        try:
            if load["kind"] == "weights":
                self._engine.collective_rpc("reload_weights", kwargs={"weights_path": load["folder"]})
            else:
                self._adapter = self._added(load["folder"])
        except Exception as error:  # the engine raises whatever it likes
            answer["failed"] = _words(error)
        self._send(answer)

    def _added(self, folder: str) -> Any:
        from vllm.lora.request import LoRARequest

        self._adapters += 1
        adapter = LoRARequest(f"adapter-{self._adapters}", self._adapters, folder)
        if not self._engine.add_lora(adapter):
            raise ValueError("the engine did not take the adapter")
        return adapter

    def _admit(self, asked: Mapping[str, Any]) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        settings = dict(asked["settings"])
        settings["logit_bias"] = {int(token): value for token, value in settings["logit_bias"].items()} or None
        try:
            params = SamplingParams(
                **settings,
                logprobs=-1 if asked["whole"] else asked["top"],
                prompt_logprobs=asked["top"] if asked["echo"] else None,
                flat_logprobs=True,
                detokenize=False,
                output_kind=RequestOutputKind.DELTA,
            )
            prompt = {"prompt_token_ids": asked["prompt"]}
            self._engine.add_request(asked["id"], prompt, params, lora_request=self._adapter)
        except Exception as error:  # so that whatever it refuses reaches whoever asked
            self._send({"id": asked["id"], "failed": _words(error)})
            return
        self._running[asked["id"]] = Request(asked, self._adapter and self._adapter.lora_int_id)

    def _step(self) -> None:
        try:
            outputs = self._engine.step()
        except Exception as error:  # the process outlives whatever one batch does to it
            lost, self._running = list(self._running), {}
            self._engine.abort_request(lost)
            for request in lost:
                self._send({"id": request, "failed": _words(error)})
            return
        for output in outputs:
            if output.request_id in self._running:
                self._tell(output)

    def _tell(self, output: Any) -> None:
        request = self._running[output.request_id]
        told: dict[str, Any] = {"id": output.request_id, "done": output.finished}
        if request.asked["echo"] and output.prompt_logprobs:
            told["prompt"] = [_row(output.prompt_logprobs, at) for at in range(len(output.prompt_logprobs))]
        drawn = output.outputs[0]
        told["tokens"] = [
            self._token(request, token, _row(drawn.logprobs, at)) for at, token in enumerate(drawn.token_ids)
        ]
        if output.finished:
            del self._running[output.request_id]
        self._send(told)

    def _token(self, request: Request, token: int, row: Sequence[tuple[int, float]]) -> list[Any]:
        """A token, its log-probability, that with which it was drawn, and the likeliest ones."""
        asked, logprob = request.asked, row[0][1]
        sampling = 0.0 if asked["settings"]["temperature"] == 0 else logprob
        if asked["whole"]:
            sampling = drawn_with(token, dict(row), asked["settings"], request.counts)
        request.counts[token] += 1
        return [token, logprob, sampling, row[1 : 1 + asked["top"]]]

    def _send(self, message: Mapping[str, Any]) -> None:
        self._connection.send_bytes(json.dumps(message).encode())


def drawn_with(token: int, raw: Mapping[int, float], settings: Mapping[str, Any], counts: Mapping[int, int]) -> float:
    """The log-probability with which the engine draws `token`: what it does to all raw ones, in its order."""
    import torch

    ids = torch.tensor(list(raw))
    logits = torch.empty(len(raw), dtype=torch.float64)
    logits[ids] = torch.tensor(list(raw.values()), dtype=torch.float64)
    for one, value in settings["logit_bias"].items():
        logits[int(one)] += value
    for one, count in counts.items():
        logits[one] -= settings["frequency_penalty"] * count + settings["presence_penalty"]
    logits /= settings["temperature"]
    if settings["min_p"] > 0:
        least = logits.max() + torch.tensor(settings["min_p"]).log()
        logits[logits < least] = float("-inf")
    best, order = logits.sort(descending=True, stable=True)
    if 0 < settings["top_k"] < len(best):
        best[settings["top_k"] :] = float("-inf")
    probabilities = best.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    if settings["top_p"] < 1:
        best[1:][before[1:] >= settings["top_p"]] = float("-inf")
    place = int((order == token).nonzero()[0, 0])
    return float(torch.log_softmax(best, -1)[place])


def _row(rows: Any, at: int) -> list[tuple[int, float]]:
    """The entries of one position: the token's own first, then the likeliest; none for the first of a prompt."""
    begin, end = rows.start_indices[at], rows.end_indices[at]
    return list(zip(rows.token_ids[begin:end], rows.logprobs[begin:end], strict=True))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:2000]


def opened(asked: Mapping[str, Any]) -> Any:
    """The engine that a message asks for, which has computed a token; raises whatever it raises."""
    from vllm import EngineArgs, LLMEngine, SamplingParams

    adapters: dict[str, Any] = {}
    if asked["rank"]:
        rank = next(rank for rank in RANKS if rank >= asked["rank"])
        adapters = {"enable_lora": True, "max_lora_rank": rank, "max_loras": 2, "max_cpu_loras": 2}
    args = EngineArgs(
        model=asked["folder"],
        dtype=asked["dtype"],
        max_model_len=asked["context"] + 1,  # the engine wants to draw a token behind any prompt
        max_logprobs=-1,
        logprobs_mode="raw_logprobs",
        generation_config="vllm",  # whatever a request does not say is not taken from the folder
        skip_tokenizer_init=True,
        enable_prefix_caching=False,  # keys and values of other weights are never used
        enforce_eager=True,
        disable_log_stats=True,
        seed=0,
        **adapters,
    )
    engine = LLMEngine.from_engine_args(args)
    engine.add_request("first", {"prompt_token_ids": [0]}, SamplingParams(max_tokens=1, detokenize=False))
    while engine.has_unfinished_requests():
        engine.step()
    return engine


def main() -> None:
    """Meet the emulator at standard input, which is a socket, and serve it until it goes."""
    connection: Connection[Any, Any] = Connection(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update({**_USUAL, **os.environ, **_ENVIRONMENT})
    try:
        asked = json.loads(connection.recv_bytes())
        try:
            import vllm

            engine = opened(asked)
        except Exception as error:  # also what fails to be imported, in whatever way
            connection.send_bytes(json.dumps({"failed": _words(error)}).encode())
            return
        connection.send_bytes(json.dumps({"ready": str(vllm.__version__)}).encode())
        Program(connection, engine).serve()
    except (EOFError, OSError):
        return  # the emulator has gone


if __name__ == "__main__":
    main()
    os._exit(0)  # nothing of the engine outlives the connection
