"""Completions: which weights a model name means, and seeds that tell parallel requests apart (WIRE 3.1, 3.2)."""

import dataclasses
import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

from emulator.backend import BackendError, GenerateRequest, Generation, Replica, ReplicaClosed, Tell
from emulator.core.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PlatformError,
    ResourceExhausted,
    Unavailable,
    UnknownField,
)
from emulator.core.names import Subject, split_resource
from emulator.platform.deployments.addons import Addons
from emulator.platform.deployments.deployments import DELETED, FAILED, Deployments
from emulator.platform.deployments.hotload import HotLoad
from emulator.platform.deployments.replicas import Lease, Load, Replicas
from emulator.platform.deployments.samplers import Samplers, is_sampler
from emulator.platform.models.models import Models
from emulator.platform.usage import Usages
from emulator.quirks import inference, promotion
from emulator.state import references
from emulator.state.deployed import DeployedModel
from emulator.state.entities import Deployment, Pod
from emulator.state.world import World


@dataclass(frozen=True)
class Target:
    """Says what answers: a replica, and the deployment and pod that it belongs to, if any.

    `release` lets go of a replica without a deployment, which others may then be opened in place of.
    """

    replica: Replica
    deployment: Deployment | None = None
    pod: Pod | None = None
    release: Callable[[], None] = lambda: None
    account: str = ""
    model: str = ""
    """Who is told of what it computes, and under which model's name."""

    @property
    def subject(self) -> Subject:
        """Say what its quirks are selected by; a model without a deployment is selected by none."""
        return Subject(deployment="") if self.deployment is None else self.deployment.subject

    @property
    def place(self) -> str:
        """The full name of what computes: a deployment, a session that samples, "" for a model alone."""
        if self.deployment is not None:
            return self.deployment.name
        parts = self.model.split("/")
        return "/".join(parts[:4]) if parts[2:3] == ["trainingSessions"] else ""


class Completions:
    """Routes prompts to replicas."""

    def __init__(
        self,
        world: World,
        deployments: Deployments,
        hotload: HotLoad,
        replicas: Replicas,
        models: Models,
        samplers: Samplers,
        addons: Addons,
        usages: Usages,
    ) -> None:
        self._world = world
        self._deployments = deployments
        self._hotload = hotload
        self._replicas = replicas
        self._models = models
        self._samplers = samplers
        self._addons = addons
        self._usages = usages
        self._turn = 0
        self._running: dict[bytes, list[int]] = {}
        self._spoken: set[tuple[str, str]] = set()
        """Deployments and sessions that have had an answer, while only the first one tells routes."""
        self._busy: Counter[str] = Counter()
        """The requests that are being answered, by the name of the deployment or of the model."""
        self._lock = threading.Lock()

    def deployment(self, account: str, model: str) -> Deployment | None:
        """The deployment that a name means, None for a model or sampler.

        Raises InvalidArgument, PermissionDenied, NotFound for an add-on that is not loaded there.
        """
        return self._meant(account, model)[0]

    def _meant(self, account: str, model: str) -> tuple[Deployment | None, DeployedModel | None]:
        """The deployment that a name means, and the add-on on it."""
        if is_sampler(model):
            return None, None
        model = self._in_full(account, model)
        named, _, name = model.rpartition("#")
        parts = name.split("/")
        if self._must_be_deployed(account, model, named):
            raise NotFound(f"model {model[:200]!r} not found, inaccessible, or not deployed")
        if len(parts) != 4 or parts[0] != "accounts" or parts[2] not in ("deployments", "models"):
            raise InvalidArgument(
                f"unknown model {model[:200]!r}: give accounts/<account>/deployments/<id> or "
                "accounts/<account>/models/<id>"
            )
        if parts[2] == "models":
            return None, None
        if parts[1] != account:
            raise PermissionDenied(f"{name[:200]} belongs to another account")
        try:
            found = self._deployments.get(account, parts[3])
        except NotFound as error:
            raise InvalidArgument(error.message) from None  # a 404 would be retried as "not loaded yet" (WIRE 3.2)
        if found.state in (DELETED, FAILED):
            raise InvalidArgument(f"{found.name} is {found.state}")
        if named == found.base_model:
            return found, None
        addon = self._addons.meant(found, named)
        if addon is None and named and found.enable_addons:
            raise NotFound(f"{named[:200]} is not loaded on {found.name}: load it with POST /deployedModels")
        if addon is None and named:
            raise InvalidArgument(
                f"{found.name} serves {found.base_model}, not {named[:200]}: give the deployment alone, or another one"
            )
        return found, addon

    def _in_full(self, account: str, model: str) -> str:
        """`model#deployment` where a deployed model is named, or a model that stands on a deployment by default."""
        parts = model.split("/")
        if len(parts) != 4 or "#" in model or parts[0] != "accounts" or parts[1] != account:
            return model
        loaded = self._addons.get(account, parts[3]) if parts[2] == "deployedModels" else None
        if parts[2] == "models":
            loaded = self._addons.default(model)
        return f"{loaded.model}#{loaded.deployment}" if loaded else model

    def resolve(self, account: str, model: str, session: str = "", *, embeds: bool = False) -> Target:
        """The replica that serves a model name; opens it if need be, and keeps it open until it is released.

        Requests of one `session` go to one replica of a deployment as long as it is healthy; "" is none. One that
        `embeds` may be of an embedding model.
        Raises InvalidArgument, PermissionDenied, FailedPrecondition, Unavailable (no replicas), Internal.
        """
        found, addon = self._meant(account, model)
        try:
            if is_sampler(model):
                return _leased(self._samplers.replica(account, model), account, model)
            if found is None:
                return _leased(self._replicas.of_model(self._model(account, model, embeds=embeds)), account, model)
            self._hotload.settle(found)
            self._deployments.used(found)
            pod = self._pod(found, session)
            if addon is not None:
                lease = self._with_addon(found, pod, addon)
                return Target(lease.replica, found, pod, lease.release, account, addon.model)
            replica = self._replicas.of_pod(found, pod)
            if self._hotload.stands(found, pod):
                return Target(replica, found, pod, account=account, model=found.base_model)
            self._replicas.close(pod.identity)  # deleted, scaled down or rolled while it was opened
            return self.resolve(account, model, session, embeds=embeds)
        except NotFound as error:
            raise FailedPrecondition(error.message) from None
        except BackendError as error:
            raise Internal(f"{model} cannot be served: {error.message}") from error

    def _with_addon(self, deployment: Deployment, pod: Pod, addon: DeployedModel) -> Lease:
        """A replica of the full weights that a pod serves, with an adapter on top; pods with equal weights share it."""
        held = [one for one in references.loads_of(self._world, deployment, pod) if one.how != "adapter"]
        loads = [Load(one.how, one.blob, one.identity, one.form) for one in held]
        adapter = Load("adapter", self._models.get(addon.model).blob, addon.model)
        return self._replicas.of_model(deployment.base_model, *loads, adapter)

    def admit(self, target: Target, model: str) -> Callable[[], None]:
        """Count a request in until what is returned is called; raises ResourceExhausted for one too many (H2)."""
        name = model if target.deployment is None else target.deployment.name
        most = self._world.quirks.value(inference.CAPACITY, target.subject)
        with self._lock:
            if most and self._busy[name] >= most:
                raise ResourceExhausted(f"{name} answers {most} requests at a time: send fewer at once, or ask again")
            self._busy[name] += 1

        def leave() -> None:
            with self._lock:
                self._busy -= Counter({name: 1})  # and forgets names that nobody asks for

        return leave

    def loading(self, deployment: Deployment) -> bool:
        """Say whether the deployment is loading a snapshot, after carrying out what is due."""
        self._hotload.settle(deployment)
        return self._hotload.loading(deployment)

    def shaped(self, target: Target, asked: Sequence[GenerateRequest], session: str) -> list[GenerateRequest]:
        """The requests as this deployment carries them out: which routes it tells, which prompts it remembers.

        `session` is what the caller's header says, or "". Raises InvalidArgument for routes where they are refused.
        """
        found = target.deployment
        if found is None:
            return list(asked)
        routing, scope = self._routing(found, session), self._hotload.prompts.scope(found, session)
        if routing == "refused" and any(one.routing for one in asked):  # it has no routes (FAILURES E41)
            raise UnknownField("include_routing_matrix")
        return [dataclasses.replace(one, prefix=scope, routing=one.routing and routing == "all") for one in asked]

    def _routing(self, deployment: Deployment, session: str) -> str:
        """Say whether routes are told: all, none or refused (FAILURES E39)."""
        rule = self._world.quirks.value(inference.ROUTING, deployment.subject)
        if rule != "first_turn":
            return rule
        later = (deployment.name, session) in self._spoken
        self._spoken.add((deployment.name, session))
        return "none" if later else "all"

    def submit(
        self, target: Target, request: GenerateRequest, key: bytes, tell: Tell | None = None
    ) -> "Future[Generation]":
        """Generate one continuation, inside `in_flight(key)`; raises InvalidArgument.

        `key` tells equal requests: the k-th one in flight gets the k-th sample of the seed, so N parallel requests with
        one body give N different samples, and the same N whenever they are asked again (WIRE 3.1).
        """
        try:
            future = target.replica.generate(dataclasses.replace(request, seed=self._seed(request.seed, key)), tell)
            future.add_done_callback(lambda done: self._count(target, len(request.prompt), done))
            return future
        except BackendError as error:
            raise _refused(error) from error

    def embed(self, target: Target, prompt: Sequence[int], size: int) -> "Future[Sequence[float]]":
        """Ask for the vector of a prompt, or its first `size` numbers; raises InvalidArgument for what does not fit."""
        try:
            future = target.replica.embed(prompt, size)
        except BackendError as error:
            raise _refused(error) from error
        future.add_done_callback(lambda done: self._count(target, len(prompt), done))
        return future

    def _count(self, target: Target, prompt: int, done: "Future[Generation] | Future[Sequence[float]]") -> None:
        """Count what was computed for a request that was answered; called by whoever finishes it."""
        if done.cancelled() or done.exception() is not None:
            return
        model = target.model
        if is_sampler(model):  # the base model that it is bound to
            session = self._world.sessions.get(target.place)
            model = session.base_model if session is not None else model
        result = done.result()
        made = result if isinstance(result, Generation) else Generation((), "", "stop")
        self._usages.generated(target.account, target.place, model, prompt, made)

    @contextmanager
    def in_flight(self, key: bytes) -> Iterator[None]:
        """Equal requests that overlap in here are siblings."""
        with self._lock:
            self._running.setdefault(key, [0, 0])[1] += 1
        try:
            yield
        finally:
            with self._lock:
                counts = self._running[key]
                counts[1] -= 1
                if not counts[1]:
                    del self._running[key]

    def _seed(self, seed: int | None, key: bytes) -> int:
        with self._lock:
            counts = self._running[key]
            occurrence = counts[0]
            counts[0] += 1
        if seed is None:
            return int(self._world.ids.hex(15), 16)
        if occurrence == 0:
            return seed
        return int.from_bytes(hashlib.sha256(f"{seed}/{occurrence}".encode()).digest()[:7], "big")

    def _model(self, account: str, name: str, *, embeds: bool) -> str:
        kind, (owner, _) = self._models.get(name).kind, split_resource(name, "models")
        if owner not in (account, "fireworks"):
            raise PermissionDenied(f"{name[:200]} belongs to another account")
        if kind == "EMBEDDING_MODEL" and not embeds:
            raise InvalidArgument(f"{name} is an embedding model and does not complete text: ask for embeddings")
        self._models.visible(account, name)
        return name

    def _must_be_deployed(self, account: str, model: str, named: str) -> bool:
        """Say whether a promoted model is named in a form under which nothing is served (FAILURES D19)."""
        if self._world.quirks.value(promotion.SERVE_FORM, Subject(account=account)) == "any":
            return False
        return (named or model) in self._world.models and not (named and "/deployments/" in model)

    def _pod(self, deployment: Deployment, session: str) -> Pod:
        """The next healthy replica, in turn, or the session's; replicas may differ for a while (FAILURES E7)."""
        clock = self._world.clock
        pods = [pod for pod in deployment.pods if pod.healthy and clock.reached(pod.started)]
        if not pods:
            self._deployments.wake(deployment)
            raise Unavailable(f"DEPLOYMENT_SCALING_UP: {deployment.name} has no replicas: scale it up")
        if (
            session
        ):  # each session ranks the replicas in an order of its own, so few change theirs when one comes or goes
            return max(pods, key=lambda pod: hashlib.sha256(f"{session}/{pod.identity}".encode()).digest())
        self._turn += 1
        return pods[self._turn % len(pods)]


def _leased(lease: Lease, account: str, model: str) -> Target:
    return Target(lease.replica, release=lease.release, account=account, model=model)


def _refused(error: BackendError) -> PlatformError:
    return InvalidArgument(error.message) if error.category == "user" else failure(error)


def failure(error: BaseException) -> PlatformError:
    """Return the answer to a generation that failed; whoever reached a replica that closes may ask again."""
    if isinstance(error, ReplicaClosed):
        return Unavailable(f"{error.message}: ask again")
    return Internal(error.message if isinstance(error, BackendError) else str(error))
