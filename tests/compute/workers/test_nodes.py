"""Trainer groups on several machines: here each node is a command of its own, on another address of this machine."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import ftsim
from emulator.backend import BackendError
from emulator.core.errors import TrainerLost
from ftsim.compute.backend import TorchBackend
from ftsim.compute.workers.nodes import Meeting, Nodes
from ftsim.compute.workers.rendezvous import SECRET
from tests.compute.workers.conftest import Connect, step
from tests.compute.workers.test_group import (
    assert_resumed_alike,
    gone,
    made,
    opened,
    steps,
)
from tests.conftest import Ftsim
from tests.sdk import RequestFailedError

COMMAND = (sys.executable, "-c", "from ftsim.cli.main import main; main()")


@dataclass
class Cluster:
    """A rendezvous, and the nodes that a test has started for it."""

    root: Path
    nodes: Nodes
    port: int = 0
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def node(
        self, nproc: int = 1, *, around: tuple[str, ...] = (), secret: str = "", host: str = "", **variables: str
    ) -> "subprocess.Popen[str]":
        """Start a node: a command, inside another one where `around` says so."""
        self.nodes.listen()
        own, port = self.nodes.address
        self.port = port
        words = (
            "trainer-node",
            "--rdzv-endpoint",
            f"{host or own}:{port}",
            "--nproc",
            str(nproc),
            "--state-dir",
            str(self.root),
        )
        environment = {**os.environ, SECRET: secret or self.nodes.meeting.secret, "OMP_NUM_THREADS": "1", **variables}
        pipe = subprocess.PIPE
        process = subprocess.Popen([*around, *COMMAND, *words], env=environment, stdout=pipe, stderr=pipe, text=True)
        self.started.append(process)
        return process


def cluster_at(root: Path, host: str, patience_s: float = 60.0) -> Cluster:
    return Cluster(root, Nodes(Meeting(host, 0, 2, "a secret", (root / "shared",)), patience_s))


@contextlib.contextmanager
def ending(cluster: Cluster) -> Iterator[Cluster]:
    try:
        yield cluster
    finally:
        cluster.nodes.close()
        for process in cluster.started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=30)
            process.kill()
            process.communicate()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A rendezvous on this machine's second loopback address."""
    with ending(cluster_at(tmp_path, "127.0.0.2")) as made_here:
        yield made_here


@pytest.mark.slow
@pytest.mark.parametrize(("nproc", "rank"), [((1, 1), 0), ((2, 1), 0), ((1, 1), 4)])
def test_ranks_on_two_nodes_train_and_save_as_one_process(
    cluster: Cluster, tmp_path: Path, nproc: tuple[int, int], rank: int
) -> None:
    spread = TorchBackend(tmp_path / "bases", workers=0, nproc=nproc[0], nodes=cluster.nodes)
    alone = TorchBackend(tmp_path / "bases", workers=0, nproc=1)
    cluster.node(nproc[1])
    with contextlib.closing(spread):
        losses, saves = [], []
        for name, backend in (("alone", alone), ("spread", spread)):
            trainer = opened(backend, rank=rank)
            losses.append(steps(trainer, 0, 1, 2))
            saves.append(made(tmp_path / name))
            trainer.save_state("m", saves[-1])
            trainer.close()
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)
        assert len(spread.workers.pids()) == sum(nproc)
        assert len(list(saves[1].glob("*.distcp"))) == (1 if rank else sum(nproc))
        assert_resumed_alike(alone, spread, saves[1], tmp_path, rank)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("dies", ["node", "rank"])
def test_a_client_outlives_a_node_that_dies(cluster: Cluster, tmp_path: Path, connect: Connect, dies: str) -> None:
    """The operation fails as in a preemption; with another node, or another rank, the job goes on to the bit."""
    cluster.node()
    backend = TorchBackend(tmp_path / "bases", workers=0, nodes=cluster.nodes)
    with contextlib.closing(backend), ftsim.Emulator(backend) as emulator:
        quiet = connect(emulator, "quiet")
        expected = [step(quiet, seed) for seed in range(4)]
        client = connect(emulator, "dying")
        found = [step(client, seed) for seed in range(2)]
        client.save_state("two").result()
        pids = backend.workers.pids()
        kill(pids[1])
        if dies == "node":
            kill(cluster.started[0].pid)
            cluster.started[0].communicate()
            cluster.node()
        with pytest.raises(RequestFailedError, match=r"the trainer stopped: .*JOB_STATE_FAILED, its process ended"):
            step(client, 2)
        assert gone(pids[0])
        resumed = connect(emulator, "dying")
        resumed.load_state_with_optimizer("two").result()
        assert found + [step(resumed, seed) for seed in (2, 3)] == expected
        assert len(set(pids) | set(backend.workers.pids())) == 4
    out = cluster.started[-1].communicate(timeout=30)[0]
    assert out.splitlines() == [f"ftsim: {line}" for line in (joined(cluster), "the emulator is gone")]


def joined(cluster: Cluster) -> str:
    return f"joined 127.0.0.2:{cluster.port}, as one of 2 nodes, with 1 ranks"


@pytest.mark.slow
def test_a_node_that_is_told_to_end_takes_its_ranks_along(cluster: Cluster, tmp_path: Path) -> None:
    process = cluster.node()
    backend = TorchBackend(tmp_path / "bases", workers=0, nodes=cluster.nodes)
    with contextlib.closing(backend):
        opened(backend, rank=4)
        own, lent = backend.workers.pids()
        process.terminate()
        assert process.wait(30) == 130
        assert gone(lent)
        assert not gone(own)


def test_nodes_that_do_not_come_are_waited_for_and_named(tmp_path: Path) -> None:
    with ending(cluster_at(tmp_path, "127.0.0.1", patience_s=0.1)) as cluster:
        backend = TorchBackend(tmp_path / "bases", workers=0, nodes=cluster.nodes)
        backend.workers.warm()
        with pytest.raises(
            BackendError, match=r"1 of 2 nodes are here after 0\.1 s: run `ftsim trainer-node --rdzv-en"
        ):
            opened(backend)


@pytest.mark.slow
def test_a_group_that_does_not_form_leaves_nothing_behind(cluster: Cluster, tmp_path: Path) -> None:
    """One of two ranks cannot reach the other: that is let go, and the next attempt, with a node that can, is whole."""
    backend = TorchBackend(tmp_path / "bases", workers=0, nodes=cluster.nodes)
    node = cluster.node(GLOO_SOCKET_IFNAME="there-is-none")
    with contextlib.closing(backend):
        with pytest.raises((BackendError, TrainerLost)):
            opened(backend)
        pids = backend.workers.pids()
        node.terminate()
        assert node.wait(30) == 130
        assert len(pids) == 2
        assert all(map(gone, pids))
        cluster.node()
        assert steps(opened(backend), 0)


def test_who_waits_for_nodes_is_told_when_the_emulator_ends(tmp_path: Path) -> None:
    with ending(cluster_at(tmp_path, "127.0.0.1")) as cluster:
        backend = TorchBackend(tmp_path / "bases", workers=0, nodes=cluster.nodes)
        assert backend.workers
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(opened, backend)
            with pytest.raises(TimeoutError):
                waiting.result(1)
            before = time.monotonic()
            backend.close()
            with pytest.raises(BackendError, match="the emulator ends"):
                waiting.result()
        assert time.monotonic() - before < 30


def test_who_does_not_know_the_secret_is_not_let_in(cluster: Cluster) -> None:
    stranger = cluster.node(secret="another")
    _, told = stranger.communicate(timeout=60)
    assert stranger.returncode == 1
    assert "the emulator has another secret than this node" in told
    assert not cluster.nodes.complete


def test_strangers_keep_nobody_out(cluster: Cluster) -> None:
    """Connections that say nothing, or something else, are let go; a node joins beside and after them."""
    cluster.nodes.listen()
    with contextlib.ExitStack() as stack:
        for number in range(100):
            stranger = stack.enter_context(socket.create_connection(cluster.nodes.address))
            if number % 2:
                stranger.sendall(b"GET / HTTP/1.1\r\n" + bytes(200))
        node = cluster.node()
        assert node.stdout is not None
        assert "joined 127.0.0.2" in node.stdout.readline()
    assert cluster.nodes.complete


def test_a_node_of_other_versions_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    made(tmp_path / "other" / "transformers-0.0.1.dist-info").joinpath("METADATA").write_text(
        "Metadata-Version: 2.1\nName: transformers\nVersion: 0.0.1\n"
    )
    path = os.pathsep.join([str(tmp_path / "other"), os.environ.get("PYTHONPATH", "")])
    node = cluster.node(PYTHONPATH=path)
    _, told = node.communicate(timeout=60)
    assert node.returncode == 1
    assert "this node cannot take part: it has transformers 0.0.1, the emulator" in told


def allowed(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("mount -t tmpfs none {folder}", "No such file or directory"),
        ("mount -o bind {folder} {folder} && mount -o remount,bind,ro {folder}", "Read-only file system"),
    ],
)
def test_a_node_that_does_not_share_the_folder_is_refused(cluster: Cluster, how: str, why: str) -> None:
    if not allowed("unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"):
        pytest.skip("a mount of a process's own is not permitted here")
    folder = made(cluster.root / "shared")
    command = f'{how.format(folder=folder)} && exec "$@"'
    node = cluster.node(around=("unshare", "-m", "sh", "-c", command, "sh"))
    _, told = node.communicate(timeout=60)
    assert node.returncode == 1
    assert f"it does not share {folder} with the emulator ({why}): mount one folder at that path on all nodes" in told
    assert not cluster.nodes.complete
    assert list(folder.iterdir()) == []


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, tuple[str, ...]]]:
    """An address of this machine, and the command around one that runs in a network of its own beside it."""
    name = f"ftsim{os.getpid() % 10000}"
    if not allowed("ip", "netns", "add", name):
        pytest.skip("a network of a process's own is not permitted here")
    inside = ("ip", "netns", "exec", name)
    try:
        for words in (
            ("ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name),
            ("ip", "addr", "add", "10.213.7.1/24", "dev", f"{name}a"),
            ("ip", "link", "set", f"{name}a", "up"),
            (*inside, "ip", "addr", "add", "10.213.7.2/24", "dev", f"{name}b"),
            (*inside, "ip", "link", "set", f"{name}b", "up"),
            (*inside, "ip", "link", "set", "lo", "up"),
        ):
            if not allowed(*words):
                pytest.skip(f"{' '.join(words)} is not permitted here")
        yield "10.213.7.1", inside
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.mark.slow
def test_ranks_of_two_networks_find_and_miss_each_other(elsewhere: tuple[str, tuple[str, ...]], tmp_path: Path) -> None:
    """The name of a host leads nowhere there: ranks use the interface over which the node has joined.

    When the cable is pulled nobody says goodbye, and within half a minute both sides know.
    """
    host, around = elsewhere
    with ending(cluster_at(tmp_path, host)) as cluster:
        node = cluster.node(around=around)
        backend = TorchBackend(tmp_path / "bases", workers=0, nodes=cluster.nodes)
        with contextlib.closing(backend):
            trainer = opened(backend)
            losses, pids = steps(trainer, 0, 1), backend.workers.pids()
            subprocess.run(["ip", "link", "del", f"ftsim{os.getpid() % 10000}a"], check=True)
            with pytest.raises(TrainerLost, match="its process ended"):
                steps(trainer, 2)
            assert gone(pids[0])
        told, _ = node.communicate(timeout=60)
        assert told.splitlines()[-1] == "ftsim: the emulator is gone"
        assert gone(pids[1])
    assert losses == pytest.approx(steps(opened(TorchBackend(tmp_path / "bases", workers=0)), 0, 1), rel=1e-5)


@pytest.mark.slow
def test_a_recipe_trains_on_two_nodes(tmp_path: Path) -> None:
    """`ftsim serve`, `ftsim trainer-node` and `ftsim train` on one state folder, which holds the secret."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    where, meeting = ("--state-dir", str(tmp_path / "state")), f"127.0.0.1:{port}"
    pipe, run = subprocess.PIPE, f"log_path={tmp_path / 'run'}"
    words = ("serve", *where, "--port", "0", "--trainer-nnodes", "2", "--trainer-rdzv-endpoint", meeting)
    server = subprocess.Popen([*COMMAND, *words], stdout=pipe, stderr=pipe, text=True)
    node = subprocess.Popen(
        [*COMMAND, "trainer-node", *where, "--rdzv-endpoint", meeting], stdout=pipe, stderr=pipe, text=True
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline()  # it is up, so that the recipe starts none of its own
        rows = [{"prompt": f"Say {word}.", "completion": word} for word in ("one", "two", "three", "four")]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        recipe = ("train", "sft", *where, "lora_rank=0", f"dataset={tmp_path / 'rows.jsonl'}", "epochs=1", run)
        done = subprocess.run([*COMMAND, *recipe], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "state" / "trainer-secret").stat().st_mode & 0o777 == 0o600
        assert list((tmp_path / "state" / "blobs").rglob("__1_0.distcp"))
    finally:
        server.send_signal(signal.SIGINT)
        invited = server.communicate(timeout=60)[1]
        told = node.communicate(timeout=60)[0]
    assert "trainers need 1 more nodes; on each run: ftsim trainer-node --state-dir" in invited
    assert told.splitlines() == [
        f"ftsim: joined {meeting}, as one of 2 nodes, with 1 ranks",
        "ftsim: the emulator is gone",
    ]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--memory", "--trainer-rdzv-endpoint", "127.0.0.1:0"), "give a --state-dir that all nodes share"),
        ((), "need a place to meet: give --trainer-rdzv-endpoint"),
        (("--trainer-rdzv-endpoint", "127.0.0.1:high"), "is no rendezvous endpoint: write HOST:PORT"),
        (("--trainer-rdzv-endpoint", "203.0.113.1:0"), "the rendezvous 203.0.113.1:0 cannot be used"),
        (("--trainer-rdzv-endpoint", "127.0.0.1:0", "--trainer-workers", "2"), "a group on several nodes is one"),
        (("--trainer-rdzv-endpoint", "127.0.0.1:0", "--light"), "--trainer-nnodes is about models"),
        (("--trainer-rdzv-endpoint", "127.0.0.1:0", "--compute", "compile"), "does not compile layers"),
    ],
)
def test_what_nodes_cannot_have_is_refused_at_the_start(
    ftsim: Ftsim, tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    folder = () if "--memory" in words else ("--state-dir", str(tmp_path / "state"))
    done = ftsim("serve", *folder, "--port", "0", "--trainer-nnodes", "2", *words)
    assert done.exit_code == 1
    assert why in done.stderr


def test_a_node_waits_for_its_emulator_as_long_as_it_is_told_to(ftsim: Ftsim, tmp_path: Path) -> None:
    before = time.monotonic()
    words = ("trainer-node", "--state-dir", str(tmp_path), "--rdzv-endpoint", "127.0.0.1:1", "--patience", "0")
    done = ftsim(*words)
    assert done.exit_code == 1
    assert "no emulator at 127.0.0.1:1 within 0 s: there is no secret yet" in done.stderr
    (tmp_path / "trainer-secret").write_text("known\n")
    assert "within 0 s: Connection refused" in ftsim(*words).stderr
    assert time.monotonic() - before < 30
