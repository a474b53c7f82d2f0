"""A backend without torch: a unigram softmax over four tokens, whose files are whole checkpoints of every kind.

It really learns (gradients by hand), so that order, repetition and resumption show in its numbers.
"""

import json
import math
import random
import struct
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from emulator.backend import (
    BackendError,
    BaseModel,
    CheckpointType,
    GeneratedToken,
    GenerateRequest,
    Generation,
    ModelDescription,
    ModelInfo,
    ModelSpec,
    SavedState,
    Tell,
    Transition,
)

SIZE = 4
FIRST_TOKEN = 96
BASE = "accounts/fireworks/models/qwen3-8b"
MOE = "accounts/fireworks/models/qwen3-30b-a3b"
TENSOR = "model.embed_tokens.weight"
ADAPTER = "base_model.model.model.layers.0.self_attn.q_proj"


def write_safetensors(
    path: Path, tensors: Mapping[str, tuple[str, Sequence[int], bytes]], metadata: Mapping[str, str] | None = None
) -> None:
    """`tensors`: name to (dtype, shape, bytes)."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"".join(data for _, _, data in tensors.values()))


def read_tensors(path: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """Bytes by tensor name, and the metadata."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    data = raw[8 + length :]
    return {name: data[slice(*entry["data_offsets"])] for name, entry in header.items()}, metadata


def pack(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def unpack(data: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def write_base(folder: Path, weights: Sequence[float] = (0.0,) * SIZE, model_type: str = "qwen3") -> Path:
    """A Hugging Face folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": model_type, "max_position_embeddings": 4096, "architectures": ["Unigram"]}
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", {TENSOR: ("F32", [SIZE, 1], pack(weights))})
    return folder


def write_delta(folder: Path, old: Sequence[float], new: Sequence[float]) -> Path:
    """An arc_v2 folder: the zstd frame of (old XOR new), with the checksum of new."""
    folder.mkdir(parents=True, exist_ok=True)
    before, after = pack(old), pack(new)
    frame = zstandard.compress(bytes(a ^ b for a, b in zip(before, after, strict=True)))
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3", "max_position_embeddings": 4096}))
    checksum = {TENSOR: str(zlib.adler32(after))}
    write_safetensors(folder / "model.safetensors", {TENSOR: ("U8", [len(frame)], frame)}, checksum)
    return folder


def write_adapter(folder: Path, rank: int = 8, added: Sequence[float] = (0.0,) * SIZE, base: str = BASE) -> Path:
    """A PEFT folder whose product B·A is `added`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"r": rank, "lora_alpha": 32, "target_modules": ["q_proj"], "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    narrow = [1.0] + [0.0] * (rank - 1)
    wide = [value for row in added for value in (row, *[0.0] * (rank - 1))]
    tensors = {
        f"{ADAPTER}.lora_A.weight": ("F32", [rank, 1], pack(narrow)),
        f"{ADAPTER}.lora_B.weight": ("F32", [SIZE, rank], pack(wide)),
    }
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    return folder


def write_training(folder: Path, state: Mapping[str, Any] | None = None, rank: int = 0) -> Path:
    """A resumable folder as `torch.distributed.checkpoint` lays it out."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__0_0.distcp").write_text(json.dumps(state or {"weights": [0.0] * SIZE}))
    (folder / ".metadata").write_text("shards: 1")
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    lora = {"rank": rank} if rank else None
    (folder / "training_state.json").write_text(json.dumps({"files": files, "lora": lora}))
    return folder


def softmax(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    grown = [math.exp(value - top) for value in logits]
    return [value / sum(grown) for value in grown]


@dataclass
class DictModel:
    """Weights, gradients and moments of one model; with LoRA the trained vector is added to the frozen base."""

    spec: ModelSpec
    base: list[float]
    trained: list[float]
    gradient: list[float] = field(default_factory=lambda: [0.0] * SIZE)
    moment: list[float] = field(default_factory=lambda: [0.0] * SIZE)
    loss_tokens: int = 0
    sequences: int = 0
    step: int = 0
    saved: tuple[str, list[float]] | None = None

    @property
    def rank(self) -> int:
        return self.spec.lora.rank if self.spec.lora else 0

    @property
    def weights(self) -> list[float]:
        return [b + t for b, t in zip(self.base, self.trained, strict=True)] if self.rank else self.trained


class DictTrainer:
    """The compute side of a job."""

    def __init__(self, base: list[float], calls: list[str]) -> None:
        self._base = base
        self._models: dict[str, DictModel] = {}
        self._calls = calls

    def create_model(self, spec: ModelSpec) -> Mapping[str, Any]:
        self._calls.append(f"create {spec.model_id}")
        trained = [0.0] * SIZE if spec.lora else list(self._base)
        self._models[spec.model_id] = DictModel(spec, list(self._base), trained)
        return {}

    def unload_model(self, model_id: str) -> None:
        self._models.pop(model_id, None)

    def info(self, model_id: str) -> ModelInfo:
        model = self._model(model_id)
        return ModelInfo("unigram", model.spec.base_model.name, "Qwen/Qwen3-8B", model.rank)

    def forward(self, model_id: str, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        self._calls.append(f"forward {model_id}")
        return self._pass(self._model(model_id), batch, backward=False)

    def forward_backward(self, model_id: str, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        self._calls.append(f"forward_backward {model_id}")
        return self._pass(self._model(model_id), batch, backward=True)

    def optim_step(
        self, model_id: str, adam_params: Mapping[str, Any], normalization: str | None
    ) -> Mapping[str, float]:
        self._calls.append(f"optim_step {model_id}")
        model = self._model(model_id)
        units = {"num_loss_tokens": model.loss_tokens, "num_sequences": model.sequences}
        unit = units.get(normalization or "", 1) or 1
        rate = float(adam_params.get("learning_rate", 1e-4))
        norm = math.sqrt(sum((g / unit) ** 2 for g in model.gradient))
        for k, gradient in enumerate(model.gradient):
            model.moment[k] = 0.9 * model.moment[k] + gradient / unit
            model.trained[k] -= rate * model.moment[k]
        model.gradient, model.loss_tokens, model.sequences = [0.0] * SIZE, 0, 0
        model.step += 1
        return {"grad_norm": norm}

    def save_state(self, model_id: str, folder: Path) -> SavedState:
        model = self._model(model_id)
        write_training(folder, {"weights": model.trained, "moment": model.moment, "step": model.step}, model.rank)
        return SavedState(model.step)

    def load_state(self, model_id: str, folder: Path, *, optimizer: bool, keep_optimizer: bool = False) -> None:
        model = self._model(model_id)
        state = json.loads((folder / "__0_0.distcp").read_text())
        model.trained, model.step = list(state["weights"]), int(state["step"])
        if not keep_optimizer:
            model.moment = list(state["moment"]) if optimizer else [0.0] * SIZE
        model.gradient = [0.0] * SIZE

    def save_sampler(
        self,
        model_id: str,
        folder: Path,
        *,
        identity: str,
        checkpoint_type: CheckpointType = "base",
        export_precision: str | None = None,
    ) -> SavedState:
        model = self._model(model_id)
        previous = None
        if checkpoint_type == "merged_base" or not model.rank:
            if checkpoint_type == "delta":
                if model.saved is None:
                    raise BackendError("no snapshot to take a delta against")
                previous = model.saved[0]
                write_delta(folder, model.saved[1], model.weights)
            else:
                write_base(folder, model.weights)
            model.saved = (identity, list(model.weights))
        else:
            write_adapter(folder, model.rank, model.trained, model.spec.base_model.name)
        return SavedState(model.step, previous)

    def load_adapter(self, model_id: str, folder: Path) -> None:
        model = self._model(model_id)
        model.trained, model.moment = _adapter(folder, model.rank), [0.0] * SIZE

    def close(self) -> None:
        self._models.clear()

    def _model(self, model_id: str) -> DictModel:
        if model_id not in self._models:
            raise BackendError(f"no model {model_id}")
        return self._models[model_id]

    def _pass(self, model: DictModel, batch: Mapping[str, Any], *, backward: bool) -> Mapping[str, Any]:
        outputs, loss = [], 0.0
        probabilities = softmax(model.weights)
        for datum in batch["data"]:
            inputs = datum["loss_fn_inputs"]
            if "target_tokens" not in inputs:
                raise BackendError("missing required field 'target_tokens'")
            targets = [int(token) for token in inputs["target_tokens"]["data"]]
            weights = inputs["weights"]["data"] if "weights" in inputs else [1.0] * len(targets)
            logprobs = [math.log(probabilities[token % SIZE]) for token in targets]
            loss -= sum(w * lp for w, lp in zip(weights, logprobs, strict=True))
            outputs.append({"logprobs": {"data": logprobs, "dtype": "float32", "shape": [len(targets)]}})
            if backward:
                self._accumulate(model, targets, weights, probabilities)
        return {"loss_fn_output_type": "ArrayRecord", "loss_fn_outputs": outputs, "metrics": {"loss:sum": loss}}

    def _accumulate(
        self, model: DictModel, targets: Sequence[int], weights: Sequence[float], probabilities: Sequence[float]
    ) -> None:
        for token, weight in zip(targets, weights, strict=True):
            for k in range(SIZE):
                model.gradient[k] += weight * (probabilities[k] - (k == token % SIZE))
        model.loss_tokens += sum(weight != 0 for weight in weights)
        model.sequences += 1


class DictReplica:
    """A serving copy. `before` is called before each token, in a thread; it may wait, and raise."""

    def __init__(self, base: list[float], before: Callable[[int], None] | None = None) -> None:
        self._before = before
        self._base = base
        self._weights = list(base)

    def load_base(self, folder: Path, identity: str, transition: Transition = "ASYNC") -> None:
        self._weights = _weights(folder)

    def apply_delta(
        self,
        folder: Path,
        identity: str,
        transition: Transition = "ASYNC",
        *,
        compression_format: str = "arc_v2",
        in_place: bool = False,
    ) -> None:
        tensors, checksums = read_tensors(folder / "model.safetensors")
        mask = zstandard.decompress(tensors[TENSOR])
        after = bytes(a ^ b for a, b in zip(pack(self._weights), mask, strict=True))
        if in_place:
            self._weights = unpack(after)
        if str(zlib.adler32(after)) != checksums[TENSOR]:
            raise BackendError("checksum mismatch: the delta is against another snapshot", "server")
        self._weights = unpack(after)

    def load_adapter(self, folder: Path, identity: str, transition: Transition = "ASYNC") -> None:
        added = _adapter(folder)
        self._weights = [b + a for b, a in zip(self._base, added, strict=True)]

    def generate(self, request: GenerateRequest, tell: Tell | None = None) -> "Future[Generation]":
        future: Future[Generation] = Future()
        began = time.perf_counter()
        logits = [math.log(p) for p in softmax(self._weights)]
        scale = request.temperature
        shares = softmax([lp / scale for lp in logits]) if scale else [float(lp == max(logits)) for lp in logits]
        chosen = random.Random(request.seed).choices(range(SIZE), shares, k=request.max_tokens)
        tokens = [self._token(k, logits, shares) for k in chosen]
        echoed = [self._token(token % SIZE, logits, None) for token in request.prompt] if request.echo else []
        measured = {"server-processing-time": time.perf_counter() - began}
        result = Generation(tokens, "".join(token.text for token in tokens), "length", echoed, measured)
        if self._before is None:
            _recite(result, future, tell, lambda at: None)
        else:
            threading.Thread(target=_recite, args=(result, future, tell, self._before), daemon=True).start()
        return future

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(chr(token) for token in tokens)

    def render_chat(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        return self.encode("".join(f"{m['role']}: {m['content']}\n" for m in messages))

    def fingerprint(self) -> str:
        return pack(self._weights).hex()

    def close(self) -> None:
        """Nothing is held."""

    def _token(self, k: int, logits: Sequence[float], shares: Sequence[float] | None) -> GeneratedToken:
        sampled = math.log(shares[k]) if shares else None
        top = sorted(((FIRST_TOKEN + j, lp) for j, lp in enumerate(logits)), key=lambda pair: -pair[1])
        return GeneratedToken(FIRST_TOKEN + k, chr(FIRST_TOKEN + k), logits[k], sampled, top)


def _recite(result: Generation, future: "Future[Generation]", tell: Tell | None, before: Callable[[int], None]) -> None:
    """Tell a generation token by token, until it is cancelled or `before` fails."""
    try:
        if tell is not None and result.prompt_tokens:
            tell(result.prompt_tokens, "".join(token.text for token in result.prompt_tokens))
        for at, token in enumerate(result.tokens):
            before(at)
            if future.cancelled():
                return
            if tell is not None:
                tell([token], token.text)
    except BackendError as error:
        future.set_exception(error)
    else:
        if future.set_running_or_notify_cancel():
            future.set_result(result)


class DictBackend:
    """The factory. `calls` tells what trainers were asked to do, in order; `unknown` are names without weights.

    `before_token` slows generations down, or breaks them (see DictReplica).
    """

    def __init__(self, root: Path, unknown: Sequence[str] = ()) -> None:
        self._root = root
        self._unknown = frozenset(unknown)
        self.calls: list[str] = []
        self.before_token: Callable[[int], None] | None = None
        self._lock = threading.Lock()

    def ready(self) -> bool:
        return True

    def warm(self) -> None:
        """Nothing to import."""

    def knows(self, base_model: str) -> bool:
        return base_model not in self._unknown

    def folder(self, base_model: BaseModel) -> Path:
        if base_model.folder is not None:
            return base_model.folder
        if not self.knows(base_model.name):
            raise BackendError(f"unknown model {base_model.name}")
        folder = self._root / base_model.name.replace("/", "_")
        with self._lock:
            return folder if folder.exists() else write_base(folder)

    def describe(self, folder: Path, base_model: BaseModel | None = None) -> ModelDescription:
        if (folder / "adapter_config.json").exists():
            config = json.loads((folder / "adapter_config.json").read_bytes())
            if base_model is None:
                raise BackendError("an adapter needs its base model")
            about = self.describe(self.folder(base_model))
            return ModelDescription(
                about.model_type, about.parameter_count, about.context_length, about.moe, config["r"],
                config["target_modules"],
            )  # fmt: skip
        config = json.loads((folder / "config.json").read_bytes())
        return ModelDescription(config["model_type"], len(_weights(folder)), config["max_position_embeddings"], False)

    def open_trainer(self, base_model: BaseModel, *, lora_rank: int, max_context_length: int) -> DictTrainer:
        return DictTrainer(_weights(self.folder(base_model)), self.calls)

    def open_replica(self, base_model: BaseModel, *, max_context_length: int) -> DictReplica:
        return DictReplica(_weights(self.folder(base_model)), self.before_token)


def _weights(folder: Path) -> list[float]:
    tensors, _ = read_tensors(folder / "model.safetensors")
    if TENSOR not in tensors:
        raise BackendError(f"{folder.name} has no {TENSOR}")
    return unpack(tensors[TENSOR])


def _adapter(folder: Path, rank: int | None = None) -> list[float]:
    tensors, _ = read_tensors(folder / "adapter_model.safetensors")
    wide = unpack(tensors[f"{ADAPTER}.lora_B.weight"])
    found = len(wide) // SIZE
    if rank is not None and rank != found:
        raise BackendError(f"the adapter has rank {found}, the model {rank}")
    return wide[::found]
