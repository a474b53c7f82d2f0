"""Models that a client uploads: announced, put file by file behind signed links, and READY once they are validated.

Until then the files lie in `uploads/` of the state folder, and are no part of a snapshot.
"""

import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from emulator.backend import Backend, BackendError, ModelDescription
from emulator.core import limits
from emulator.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, PlatformError
from emulator.core.names import check_model_id, resource
from emulator.platform.models import folders
from emulator.platform.models.links import Links, file_path
from emulator.platform.models.models import ADDON, READY, UPLOADING, Models
from emulator.state.blobs import RECORD, Blobs, share_file
from emulator.state.entities import Model
from emulator.state.records import record_for
from emulator.state.world import World


@dataclass
class Receiving:
    """Writes the bytes of a file as they come."""

    out: IO[bytes]
    left: int
    """Bytes that are still to come."""

    def take(self, chunk: bytes) -> None:
        """Raises InvalidArgument for a byte more than were announced."""
        self.left -= len(chunk)
        if self.left < 0:
            raise InvalidArgument("the file is longer than it was announced: ask for an upload endpoint with its size")
        self.out.write(chunk)


KINDS = ("HF_BASE_MODEL", ADDON, "EMBEDDING_MODEL")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,119}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,119}){0,3}")


@dataclass(frozen=True)
class NewModel:
    """A model to be uploaded. An adapter says its base model, its rank and the modules that it is on."""

    id: str
    kind: str = ADDON
    display_name: str = ""
    description: str = ""
    base_model: str = ""
    lora_rank: int = 0
    target_modules: list[str] = field(default_factory=list)


class Uploads:
    """Takes the files of new models."""

    def __init__(self, world: World, blobs: Blobs, models: Models, backend: Backend, links: Links) -> None:
        self._world = world
        self._blobs = blobs
        self._models = models
        self._backend = backend
        self._links = links
        self._root = blobs.home / "uploads"
        self._validating = threading.Lock()
        models.on_delete(self._forget)

    def clear(self) -> None:
        """Delete what was uploaded and not validated."""
        shutil.rmtree(self._root, ignore_errors=True)

    def create(self, account: str, asked: NewModel) -> Model:
        """Announce a model; raises InvalidArgument, AlreadyExists, NotFound."""
        check_model_id(asked.id)
        if asked.kind not in KINDS:
            raise InvalidArgument(f"kind is {asked.kind[:40]!r}: models of {', '.join(KINDS)} can be uploaded")
        if asked.kind == ADDON:
            if not asked.base_model or asked.lora_rank < 1:
                raise InvalidArgument(
                    f"a model of kind {ADDON} has peftDetails: its baseModel, its rank r, targetModules"
                )
            self._models.base(self._models.visible(account, asked.base_model).name)
        elif asked.base_model:
            raise InvalidArgument(f"peftDetails belong to a model of kind {ADDON}, and this is a {asked.kind}")
        with self._world.change():
            name = resource(account, "models", asked.id)
            if self._models.exists(name):
                raise AlreadyExists(f"model {name} already exists: choose another modelId, or delete it")
            now = self._world.clock.now()
            made = Model(
                account=account,
                id=asked.id,
                kind=asked.kind,
                created=now,
                updated=now,
                blob="",
                state=UPLOADING,
                base_model=asked.base_model,
                lora_rank=asked.lora_rank,
                target_modules=list(asked.target_modules),
                display_name=asked.display_name or asked.id,
                description=asked.description,
            )
            return self._world.models.put(made)

    def links(self, name: str, sizes: Mapping[str, int]) -> dict[str, str]:
        """File name to path and query of the link to put it at.

        Raises NotFound, InvalidArgument, FailedPrecondition.
        """
        model = self._waiting(name)
        if not sizes:
            raise InvalidArgument("filenameToSize is empty: give the name and the size in bytes of every file")
        for file, size in sizes.items():
            if not _FILE.fullmatch(file) or file == RECORD:
                raise InvalidArgument(f"filenameToSize: {file[:120]!r} is no relative path of letters, digits, . _ -")
            if size < 1:
                raise InvalidArgument(f"filenameToSize: {file} has {size} bytes: a file that is uploaded has some")
        announced = {**model.announced, **sizes}
        if len(announced) > limits.UPLOAD_FILES.value or sum(announced.values()) > limits.UPLOAD.value:
            raise InvalidArgument(
                f"a model of over {limits.UPLOAD_FILES.value} files or {limits.UPLOAD.value >> 30} GiB is not taken"
            )
        with self._world.change():
            model.announced = announced
            self._world.models.put(model)
        signed = {file: self._links.signed(file_path(name, file), "PUT", str(size)) for file, size in sizes.items()}
        return {file: f"{link}&size={sizes[file]}" for file, link in signed.items()}

    @contextmanager
    def receiving(self, name: str, file: str, expires: str, signature: str, size: str) -> "Iterator[Receiving]":
        """Take the bytes of a file; it is there once all have come, and the block ends without an error.

        Raises PermissionDenied for a wrong link, FailedPrecondition, InvalidArgument, StorageFailed.
        """
        self._links.check(f"/v1/{name}/files/{file}", expires, signature, "PUT", size)
        self._waiting(name)
        target = self._folder(name) / file.replace(":", "/")
        aside = self._root / f".{self._world.ids.hex_aside(16)}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as out:
                taking = Receiving(out, int(size))
                yield taking
            if taking.left:
                raise InvalidArgument(f"{file} ended {taking.left} bytes before the {size} that were announced")
            aside.replace(target)
        except OSError as error:
            raise self._blobs.failure(error) from error
        finally:
            aside.unlink(missing_ok=True)

    def validate(self, name: str, *, config_only: bool = False, unbuilt: bool = False) -> list[str]:
        """Look at what was uploaded and make the model READY; returns warnings.

        `config_only` asks for no tokenizer, and `unbuilt` builds no model of the configuration. Raises NotFound,
        FailedPrecondition, and the model stays as it is.
        """
        with self._validating:
            if self._models.get(name).state == READY and name in self._world.models:
                return []
            return self._validated(self._waiting(name), config_only=config_only, unbuilt=unbuilt)

    def _validated(self, model: Model, *, config_only: bool, unbuilt: bool) -> list[str]:
        name, folder = model.name, self._folder(model.name)
        missing = [file for file, size in model.announced.items() if not _whole(folder / file, size)]
        if missing or not model.announced:
            said = f"not uploaded yet: {', '.join(sorted(missing)[:8])}" if missing else "no file was uploaded"
            raise FailedPrecondition(f"{name}: {said}: put each at its link of getUploadEndpoint")
        if model.kind != ADDON and not config_only and not folders.has_tokenizer(folder):
            raise FailedPrecondition(
                f"{name} has no tokenizer: upload tokenizer.json, or validate with configOnly=true"
            )
        found = self._looked_at(model, folder, unbuilt=unbuilt)
        self._keep(model, folder, found)
        return [] if found.context_length else ["config.json does not say how long a context may be"]

    def _looked_at(self, model: Model, folder: Path, *, unbuilt: bool) -> ModelDescription:
        adapter = model.kind == ADDON
        if why := (folders.why_no_adapter if adapter else folders.why_unusable)(folder):
            raise FailedPrecondition(f"what was uploaded as {model.name} {why}")
        base = self._models.base(model.base_model) if adapter else None
        if unbuilt and not adapter:
            facts = folders.read(folder)
            return ModelDescription(facts.model_type, facts.parameter_count, facts.context_length, facts.moe)
        try:
            found = self._backend.describe(folder, base)
        except BackendError as error:
            raise FailedPrecondition(f"what was uploaded as {model.name} does not open: {error.message}") from error
        if adapter and found.lora_rank != model.lora_rank:
            raise FailedPrecondition(
                f"{model.name} was announced with rank {model.lora_rank}, adapter_config.json says {found.lora_rank}"
            )
        return found

    def _keep(self, model: Model, folder: Path, found: ModelDescription) -> None:
        """Make a blob of the files, and the model READY."""
        staged = self._blobs.stage()
        try:
            for file in model.announced:
                share_file(folder / file, staged / file)
        except OSError as error:
            self._blobs.discard(staged)
            raise self._blobs.failure(error) from error
        key = f"{model.account}/models/{model.id}~{self._world.ids.hex_aside(8)}"
        digests = self._blobs.digest(staged)
        ready = replace(
            model,
            state=READY,
            blob=key,
            digests=digests,
            announced={},
            updated=self._world.clock.now(),
            model_type=found.model_type,
            parameter_count=found.parameter_count,
            context_length=found.context_length,
            moe=found.moe,
            target_modules=list(found.target_modules) or model.target_modules,
            root=self._models.root(model.base_model) if model.base_model else "",
        )
        self._blobs.commit(staged, key, digests, record_for("model", ready))
        try:
            with self._world.change():
                self._world.models.put(ready)
        except PlatformError:
            self._blobs.delete(key)
            raise
        shutil.rmtree(folder, ignore_errors=True)

    def _waiting(self, name: str) -> Model:
        """The model, if it waits for files; raises NotFound, FailedPrecondition."""
        model = self._models.get(name)
        if name not in self._world.models or model.state != UPLOADING or model.blob:
            raise FailedPrecondition(f"{name} is {model.state} and takes no files: create a model to upload them to")
        return model

    def _folder(self, name: str) -> Path:
        return self._root / name

    def _forget(self, model: Model) -> None:
        shutil.rmtree(self._folder(model.name), ignore_errors=True)


def _whole(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
