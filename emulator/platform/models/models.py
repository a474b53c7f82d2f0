"""Models: those of the catalogue and those that a promotion made (WIRE 1.5, 5.7)."""

from collections.abc import Callable, Sequence
from pathlib import Path

from emulator.backend import Backend, BaseModel
from emulator.core.catalogue import repository
from emulator.core.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from emulator.core.lifecycle import Lifecycle
from emulator.core.names import split_resource
from emulator.platform.models.catalogue import Catalogue
from emulator.platform.models.facts import BIRTH, CatalogueModel
from emulator.platform.queries.paging import Page, Query
from emulator.state.blobs import Blobs
from emulator.state.entities import Model
from emulator.state.world import World

BASE_KINDS = ("HF_BASE_MODEL", "EMBEDDING_MODEL", "CUSTOM_MODEL")
ADDON = "HF_PEFT_ADDON"
READY = "READY"
UPLOADING = "UPLOADING"


class Models:
    """All models that an account can see. Catalogue models are served as `Model` too, and cannot be changed."""

    def __init__(self, world: World, blobs: Blobs, catalogue: Catalogue, backend: Backend) -> None:
        self._world = world
        self._blobs = blobs
        self._catalogue = catalogue
        self._backend = backend
        self._lifecycle = Lifecycle(world, self._enter)
        self._on_delete: list[Callable[[Model], None]] = []

    def on_delete(self, listener: Callable[[Model], None]) -> None:
        """Call `listener` with every model that is deleted."""
        self._on_delete.append(listener)

    def exists(self, name: str) -> bool:
        """Say whether there is a model of this full name, READY or not."""
        return name in self._world.models or self._catalogue.model(name) is not None

    def get(self, name: str) -> Model:
        """The model of this full resource name; raises InvalidArgument, NotFound."""
        split_resource(name, "models")
        if (model := self._world.models.get(name)) is not None:
            return self._lifecycle.settle(model)
        if (known := self._catalogue.model(name)) is not None:
            return _as_model(known)
        raise NotFound(
            f"model {name[:200]!r} not found: check the name in its account's list of models; "
            f"{self._catalogue.why_unknown(name)}"
        )

    def named(self, name: str) -> str:
        """The full name of a base model, which its name on the hub may stand for; raises NotFound."""
        if name.startswith("accounts/"):
            return name
        found = [one.name for one in self._catalogue.models.values() if name and name == one.tokenizer]
        exact = [one for one in found if repository(one.rpartition("/")[2]) == name]
        if not found:
            raise NotFound(
                f"no base model is {name[:120]!r}: give accounts/fireworks/models/<id>, or the name on the hub of a "
                "model in the catalogue"
            )
        return (exact or found)[0]

    def hub_name(self, name: str) -> str:
        """The name on the hub that `named` gives back a base model for; its full name where there is none."""
        known = self._catalogue.models.get(name)
        return known.tokenizer if known and known.tokenizer and self.named(known.tokenizer) == name else name

    def trainable(self) -> list[CatalogueModel]:
        """The base models that LoRA can be trained on."""
        return [one for one in self._catalogue.models.values() if one.kind in BASE_KINDS and one.supports_lora]

    def visible(self, account: str, name: str) -> Model:
        """Find a model as `get` does, if the account may build on it.

        Raises PermissionDenied for what another account has promoted, FailedPrecondition for what is not READY yet.
        """
        model = self.get(name)
        if name in self._world.models and model.account != account:
            raise PermissionDenied(f"{name[:200]} belongs to another account than {account!r}")
        if model.state != READY:  # its files are still being copied (FAILURES D7)
            raise FailedPrecondition(f"{name} is {model.state}: wait until it is {READY}")
        return model

    def serverless(self, account: str) -> Sequence[Model]:
        """The models of an account that are served without a deployment, in the catalogue's order."""
        prefix = f"accounts/{account}/"
        known = enumerate(self._catalogue.models.values())
        return [_as_model(one, at) for at, one in known if one.serverless and one.name.startswith(prefix)]

    def list(self, account: str, query: Query[Model] = Query()) -> Page[Model]:
        """The models of one account, those of the catalogue first; raises InvalidArgument for a foreign page token."""
        prefix = f"accounts/{account}/"
        known = [_as_model(m, at) for at, m in enumerate(self._catalogue.models.values()) if m.name.startswith(prefix)]
        own = [model for model in self._world.models.of(account) if model.name not in self._catalogue.models]
        return query.page(known + [self._lifecycle.settle(model) for model in own], lambda model: model.created)

    def base(self, name: str) -> BaseModel:
        """Return what a trainer or a deployment builds on; raises InvalidArgument for an adapter, NotFound."""
        model = self.get(name)
        if model.kind not in BASE_KINDS:
            raise InvalidArgument(
                f"{name} is a {model.kind}, not a base model: use {model.base_model or 'its base model'} as base_model "
                "and load the adapter with load_adapter"
            )
        self._refuse_unready(model)
        if model.blob:
            root = self._catalogue.model(model.root)
            return BaseModel(name, self.folder(model), model.model_type, model.moe, root.tokenizer if root else "")
        base = self._catalogue.base_model(name)
        if base.folder is None and not self._backend.knows(name):
            raise FailedPrecondition(f"no weights stand behind {name}: put a folder there with --model {name}=FOLDER")
        return base

    def facts(self, model: Model) -> CatalogueModel | None:
        """The catalogue's entry of a model, or of the one that it descends from; of an upload what its files say."""
        if (known := self._catalogue.model(model.root or model.name)) is not None or model.kind not in BASE_KINDS:
            return known
        return CatalogueModel(model.name, model.model_type, model.parameter_count, model.context_length)

    def root(self, name: str) -> str:
        """The catalogue model that a model descends from."""
        model = self._world.models.get(name)
        return name if model is None or not model.root else model.root

    def beneath(self, name: str) -> str:
        """The model whose full weights a name stands for: itself, or what it is an adapter on; raises NotFound."""
        model = self.get(name)
        return model.base_model if model.kind == ADDON else name

    def folder(self, model: Model) -> Path:
        """The files of a model that was made here, or of one with a folder behind it.

        Raises NotFound, Damaged, FailedPrecondition for one that is being uploaded.
        """
        self._refuse_unready(model)
        if model.blob:
            gone = f"the files of {model.name} are gone"
            return self._blobs.checked(model.blob, model.digests, model.name, gone)
        return self._backend.folder(self.base(model.name))

    def update(self, name: str, *, display_name: str | None = None, description: str | None = None) -> Model:
        """Change what may be changed; raises PermissionDenied for a catalogue model, NotFound."""
        with self._world.change():
            model = self._own(name)
            if display_name is not None:
                model.display_name = display_name
            if description is not None:
                model.description = description
            model.updated = self._world.clock.now()
            return self._world.models.put(model)

    def delete(self, name: str) -> None:
        """Remove a promoted model and its files.

        Raises PermissionDenied for a catalogue model, FailedPrecondition for one that is deployed, NotFound.
        """
        with self._world.change():
            model = self._own(name)
            self._refuse_deployed(model)
            self._world.models.remove(name)
        if model.blob:
            self._blobs.delete(model.blob)
        for listener in self._on_delete:
            listener(model)

    def _refuse_deployed(self, model: Model) -> None:
        """A replica that starts anew opens the model again: without it a restart would end what is served."""
        for loaded in self._world.deployed_models.of(model.account):
            if loaded.model == model.name:
                raise FailedPrecondition(f"{model.name} is loaded on {loaded.deployment}: unload {loaded.name} first")
        for deployment in self._world.deployments.of(model.account):
            served = self._world.models.get(deployment.base_model)
            below = served.base_model if served is not None and served.kind == ADDON else ""
            if deployment.deleted is None and model.name in (deployment.base_model, below):
                raise FailedPrecondition(f"{model.name} is served by {deployment.name}: delete the deployment first")

    def _refuse_unready(self, model: Model) -> None:
        if not model.blob and model.name in self._world.models:
            raise FailedPrecondition(f"{model.name} is being uploaded: put its files, and call validateUpload")

    def _enter(self, model: Model, state: str) -> None:
        model.state, model.pending = state, None
        self._world.models.put(model)

    def _own(self, name: str) -> Model:
        model = self.get(name)
        if name not in self._world.models:
            raise PermissionDenied(f"{name} belongs to the catalogue and cannot be changed")
        return model


def _as_model(known: CatalogueModel, index: int = 0) -> Model:
    account, short = split_resource(known.name, "models")
    return Model(
        account=account,
        id=short,
        kind=known.kind,
        created=BIRTH + index,
        updated=BIRTH + index,
        blob="",
        model_type=known.model_type,
        parameter_count=known.parameter_count,
        context_length=known.context_length,
        moe=known.moe,
        display_name=known.display_name or short,
    )
