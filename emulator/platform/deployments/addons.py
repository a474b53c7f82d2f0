"""Deployed models: adapters loaded on a deployment that takes add-ons, each sampled as `model#deployment`.

Many stand beside each other, or one at a time is merged: then the deployment's own name means it, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from emulator.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from emulator.core.lifecycle import Lifecycle, Progression
from emulator.core.names import resource, split_resource
from emulator.platform.deployments.deployments import Deployments
from emulator.platform.models.catalogue import Catalogue
from emulator.platform.models.models import ADDON, Models
from emulator.platform.queries.paging import Page, Query
from emulator.quirks import deployments
from emulator.state.deployed import DeployedModel
from emulator.state.entities import Deployment, Model
from emulator.state.world import World

DEPLOYING, DEPLOYED, UNDEPLOYING = "DEPLOYING", "DEPLOYED", "UNDEPLOYING"
GONE = "gone"
"""What an add-on that is being unloaded settles in."""
_NARROW = ("FP8", "FP4", "NF4")
"""Beginnings of precisions on which no add-on loads (FAILURES D19)."""


@dataclass(frozen=True)
class Loading:
    """A create request. `replace` merges the adapter, in the place of every other on the deployment."""

    model: str
    deployment: str
    default: bool = False
    display_name: str = ""
    description: str = ""
    replace: bool = False


class Addons:
    """The deployed models of all accounts."""

    def __init__(self, world: World, catalogue: Catalogue, models: Models, deployments: Deployments) -> None:
        self._world = world
        self._catalogue = catalogue
        self._models = models
        self._deployments = deployments
        self._lifecycle = Lifecycle(world, self._enter)
        deployments.on_end(self._forget)

    def load(self, account: str, asked: Loading) -> DeployedModel:
        """Load an adapter; raises InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, PermissionDenied."""
        deployment = self._deployment(account, asked.deployment)
        model = self._adapter(account, asked.model)
        self._check_fits(model, deployment)
        if deployment.enable_hot_reload_latest_addon and not asked.replace:
            raise FailedPrecondition(
                f"{deployment.name} merges one add-on at a time (enableHotReloadLatestAddon): "
                "send replaceMergedAddon=true"
            )
        others = self.on(deployment)
        if not asked.replace and any(one.model == model.name for one in others):
            raise AlreadyExists(f"{model.name} is loaded on {deployment.name} already")
        world = self._world
        with world.change():
            for one in others if asked.replace else ():
                world.deployed_models.remove(one.name)
            now = world.clock.now()
            made = DeployedModel(
                account=account,
                id=f"{model.id[:54].rstrip('-')}-{world.ids.base36(8)}",
                created=now,
                updated=now,
                model=model.name,
                deployment=deployment.name,
                default=asked.default or not self.of_model(model.name),
                merged=asked.replace,
                display_name=asked.display_name,
                description=asked.description,
                state=DEPLOYING,
            )
            self._set_out(made, DEPLOYED)
            self._alone_by_default(made)
            return world.deployed_models.put(made)

    def get(self, account: str, identifier: str) -> DeployedModel:
        """The deployed model of this id; raises NotFound."""
        found = self._world.deployed_models.get(resource(account, "deployedModels", identifier))
        if found is None or self._settled(found) is None:
            raise NotFound(f"deployed model {identifier[:128]!r} not found in account {account}: list those there are")
        return found

    def list(self, account: str, query: Query[DeployedModel] = Query()) -> Page[DeployedModel]:
        """The deployed models of an account, oldest first; raises InvalidArgument for a foreign page token."""
        rows = [one for one in self._world.deployed_models.of(account) if self._settled(one) is not None]
        return query.page(rows, lambda one: one.created)

    def update(
        self,
        account: str,
        identifier: str,
        *,
        default: bool | None = None,
        display_name: str | None = None,
        description: str | None = None,
        model: str | None = None,
        deployment: str | None = None,
    ) -> DeployedModel:
        """Change what is said of it and whether it is the default; raises InvalidArgument, NotFound."""
        found = self.get(account, identifier)
        for what, wanted, there in (("model", model, found.model), ("deployment", deployment, found.deployment)):
            if wanted is not None and wanted != there:
                raise InvalidArgument(f"{what} of a deployed model cannot be changed: unload it, and load another")
        with self._world.change():
            found.default = found.default if default is None else default
            found.display_name = found.display_name if display_name is None else display_name
            found.description = found.description if description is None else description
            found.updated = self._world.clock.now()
            self._alone_by_default(found)
            return self._world.deployed_models.put(found)

    def unload(self, account: str, identifier: str) -> None:
        """Unload an adapter; raises NotFound."""
        found = self.get(account, identifier)
        with self._world.change():
            found.state, found.updated = UNDEPLOYING, self._world.clock.now()
            self._world.deployed_models.put(found)
            self._set_out(found, GONE)

    def on(self, deployment: Deployment) -> Sequence[DeployedModel]:
        """The add-ons of a deployment, those that are being loaded or unloaded too."""
        rows = self._world.deployed_models.of(deployment.account)
        return [one for one in rows if one.deployment == deployment.name and self._settled(one) is not None]

    def of_model(self, name: str) -> Sequence[DeployedModel]:
        """The add-ons that a model is, on all deployments."""
        rows = self._world.deployed_models.of(split_resource(name, "models")[0])
        return [one for one in rows if one.model == name and self._settled(one) is not None]

    def meant(self, deployment: Deployment, model: str) -> DeployedModel | None:
        """The add-on that `model#deployment` means; of "" the one that is merged, None for the base model.

        Raises NotFound for one that is not loaded yet, or not any more.
        """
        found = [one for one in self.on(deployment) if (one.model == model if model else one.merged)]
        if found and found[0].state != DEPLOYED:
            if not model:
                return None  # until it is merged, the base model answers
            raise NotFound(f"{model} is {found[0].state} on {deployment.name}: ask again when it is {DEPLOYED}")
        return found[0] if found else None

    def default(self, model: str) -> DeployedModel | None:
        """The add-on that a model named alone means; None where it stands on no deployment."""
        return next((one for one in self.of_model(model) if one.default and one.state == DEPLOYED), None)

    def _deployment(self, account: str, name: str) -> Deployment:
        owner, identifier = split_resource(name, "deployments")
        found = self._deployments.get(owner, identifier) if owner == account else None
        if found is None:
            raise NotFound(f"deployment {name[:200]!r} not found in account {account}")
        if found.state not in ("READY", "UPDATING"):
            raise FailedPrecondition(f"{found.name} is {found.state}: load an add-on once it is READY")
        if not (found.enable_addons or found.enable_hot_reload_latest_addon):
            raise FailedPrecondition(f"{found.name} takes no add-ons: create it with enableAddons: true")
        if (precision := self._precision(found)).startswith(_NARROW):
            raise FailedPrecondition(f"add-ons load on BF16 deployments, and {found.name} is {precision}")
        return found

    def _precision(self, deployment: Deployment) -> str:
        if deployment.deployment_shape:
            return self._catalogue.deployment_shape(deployment.deployment_shape)[0].precision
        return str(deployment.request.get("precision", ""))

    def _adapter(self, account: str, name: str) -> Model:
        if not name:
            raise InvalidArgument("model is required: give accounts/<account>/models/<adapter>")
        model = self._models.visible(account, name)
        if model.kind != ADDON:
            raise InvalidArgument(f"{name} is a {model.kind}: add-ons are {ADDON} models; create a deployment of it")
        return model

    def _check_fits(self, model: Model, deployment: Deployment) -> None:
        if model.base_model != deployment.base_model:
            raise InvalidArgument(
                f"{model.name} is an adapter on {model.base_model}, and {deployment.name} serves "
                f"{deployment.base_model}: load it on a deployment of its base model"
            )

    def _alone_by_default(self, found: DeployedModel) -> None:
        """Of one model, one is the default."""
        for one in self.of_model(found.model) if found.default else ():
            if one.name != found.name and one.default:
                one.default = False
                self._world.deployed_models.put(one)

    def _set_out(self, found: DeployedModel, state: str) -> None:
        wait = Progression(after_s=self._world.quirks.value(deployments.ADDON_LOAD_S, found.subject))
        found.pending = wait.to(state, self._world.clock)
        if wait.immediate:
            self._enter(found, state)

    def _enter(self, found: DeployedModel, state: str) -> None:
        if state == GONE:
            self._world.deployed_models.remove(found.name)
            return
        found.state, found.pending, found.updated = state, None, self._world.clock.now()
        self._world.deployed_models.put(found)

    def _settled(self, found: DeployedModel) -> DeployedModel | None:
        """The add-on after what time has brought; None once it is gone."""
        self._lifecycle.settle(found)
        return found if found.name in self._world.deployed_models else None

    def _forget(self, deployment: Deployment) -> None:
        """Forget what was loaded on a deployment; inside a change."""
        for one in self._world.deployed_models.of(deployment.account):
            if one.deployment == deployment.name:
                self._world.deployed_models.remove(one.name)
