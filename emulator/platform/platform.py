"""Builds the services over one world and hands them to the routes."""

from emulator.backend import Backend
from emulator.core.errors import InvalidArgument
from emulator.platform.bills import Bills
from emulator.platform.checkpoints.checkpoints import Checkpoints
from emulator.platform.checkpoints.promotion import Promotion
from emulator.platform.deployments.addons import Addons
from emulator.platform.deployments.completions import Completions
from emulator.platform.deployments.deployments import Deployments
from emulator.platform.deployments.hotload import HotLoad
from emulator.platform.deployments.ledger import Ledger
from emulator.platform.deployments.replicas import Replicas
from emulator.platform.deployments.samplers import Samplers
from emulator.platform.imports import Imports
from emulator.platform.jobs.jobs import Jobs
from emulator.platform.managed import ManagedResources
from emulator.platform.models.catalogue import Catalogue
from emulator.platform.models.downloads import Downloads
from emulator.platform.models.links import Links
from emulator.platform.models.models import Models
from emulator.platform.models.uploads import Uploads
from emulator.platform.operations import Operations
from emulator.platform.quotas import Quotas
from emulator.platform.route_files import RouteFiles
from emulator.platform.trainers.curves import Curves
from emulator.platform.trainers.external import ExternalWeights
from emulator.platform.trainers.futures import Futures
from emulator.platform.trainers.native import NativeRuns, Sampling
from emulator.platform.trainers.owners import Owners
from emulator.platform.trainers.restoring import Restoring
from emulator.platform.trainers.trainers import Pool, Trainers
from emulator.platform.trainers.training import Training
from emulator.platform.trainers.training_sessions import TrainingSessions
from emulator.platform.usage import Usages
from emulator.state import references
from emulator.state.blobs import Blobs
from emulator.state.world import World


class Platform:
    """Everything a route may call. One instance per emulator."""

    def __init__(self, world: World, blobs: Blobs, backend: Backend, catalogue: Catalogue, account: str) -> None:
        self.world = world
        self.blobs = blobs
        self.lost = references.set_aside(world, blobs, f"{world.ids.boot:06d}")
        """Keys of files that no row points at, moved to `lost+found` when this platform began."""
        self.backend = backend
        self.catalogue = catalogue
        self.account = account
        self.usages = Usages(world)
        self.bills = Bills(world, self.usages)
        self.models = Models(world, blobs, catalogue, backend)
        self.jobs = Jobs(world, catalogue, self.models)
        self.sessions = TrainingSessions(world)
        self.owners = Owners(world, self.jobs, self.sessions)
        self.managed = ManagedResources(world)
        self.checkpoints = Checkpoints(world, blobs, self.owners)
        self.operations = Operations(world)
        self.links = Links(world)
        self.downloads = Downloads(self.links, self.models)
        self.uploads = Uploads(world, blobs, self.models, backend, self.links)
        self.promotion = Promotion(world, blobs, self.checkpoints, self.models, self.operations, backend)
        self.futures = Futures(world)
        self.trainers = Trainers(world, backend, self.owners, self.models, self.futures)
        self.trainers.unloaded = self.sessions.unloaded
        self.imports = Imports(world, blobs, backend, self.models, self.jobs, self.checkpoints)
        self.pool = Pool(world, self.sessions, self.trainers, self.models)
        self.curves = Curves(world)
        self.owners.on_stop(lambda owner: self.curves.stopped(owner.name))
        self.owners.on_purge(lambda owner: self.curves.forget(owner.name))
        self.native_runs = NativeRuns(world, self.sessions, self.checkpoints)
        self.external = ExternalWeights(self.links, self.native_runs, self.checkpoints)
        self.sampling = Sampling()
        self.routes = RouteFiles(world, blobs.home / "routes")
        self.training = Training(
            world, blobs, self.checkpoints, self.owners, self.models, self.curves, self.routes, self.usages
        )
        self.restoring = Restoring(self.sessions, self.pool, self.training)
        self.replicas = Replicas(world, blobs, self.models, backend)
        self.deployments = Deployments(world, catalogue, self.models)
        self.addons = Addons(world, catalogue, self.models, self.deployments)
        self.hotload = HotLoad(world, self.deployments, self.replicas, self.models)
        self.quotas = Quotas(world, self.jobs, self.sessions, self.deployments)
        self.ledger = Ledger(world, self.deployments, self.hotload)
        self.samplers = Samplers(world, self.sessions, self.checkpoints, self.replicas, self.models)
        self.completions = Completions(
            world, self.deployments, self.hotload, self.replicas, self.models, self.samplers, self.addons, self.usages
        )
        self.deployments.on_pod_gone(lambda pod, _: self.replicas.close(pod.identity))
        self.deployments.on_pod_gone(lambda _, keys: references.let_go(world, blobs, keys))
        self.hotload.on_unload(lambda keys: references.let_go(world, blobs, keys))
        self.deployments.loading = self.hotload.loading

    def move_to(self, date: str) -> None:
        """Be the service as it was on this date: its switches and its catalogue; raises InvalidArgument."""
        try:
            self.world.move_to(date)
        except ValueError as error:
            raise InvalidArgument(str(error)) from None
        self.catalogue.move_to(self.world.platform)

    def reset(self) -> None:
        """Forget everything but the catalogue and the seed; whoever waits for an operation is told."""
        self.stop("the emulator was reset")
        self.world.reset()
        self.blobs.clear()
        self.routes.clear()
        self.uploads.clear()

    def stop(self, why: str) -> None:
        """End trainers and replicas, forget what was promised; jobs and deployments stay as they are."""
        self.futures.clear(why)
        self.trainers.stop_all(why)
        self.curves.clear()
        self.usages.clear()
        self.sampling.sessions.clear()
        self.replicas.close_all()

    def close(self) -> None:
        """Stop trainers, let what runs finish, close the store. Safe to call twice."""
        self.futures.interrupt()
        self.trainers.stop_all("the emulator stopped", wait_s=10)
        self.curves.flush()
        self.replicas.close_all()
        self.usages.close()
        self.world.store.close()
