"""A broker with several log directories, who writes to it, and ways to lose one of them."""

import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest

from perf import wire
from perf.batches import batch_of_size
from perf.peers.tailrace import Tailrace
from tailrace.clients.cluster import Cluster
from tailrace.core.errors import NOT_LEADER_OR_FOLLOWER
from tailrace.core.protocol.apis import DESCRIBE_LOG_DIRS
from tailrace.core.protocol.messages.describe_log_dirs import (
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResponseResult,
)
from tailrace.core.protocol.messages.metadata import MetadataResponsePartition
from tailrace.workers.status import BrokerStatus, read_status
from tests.support.waiting import wait_until

BATCH = batch_of_size(4096, 1000).data
RECORDS = struct.unpack_from(">i", BATCH, 57)[0]
PACE_S = 0.001
SMALL_SEGMENTS = {"log.segment.bytes": str(1 << 20)}


class Broker(Tailrace):
    """One with the directories `names` of its folder; the metadata log lies in the first."""

    def __init__(self, directory: Path, names: Sequence[str], settings: dict[str, str] | None = None) -> None:
        self.dirs = [directory / name for name in names]
        paths = ",".join(str(path) for path in self.dirs)
        super().__init__(directory, {"log.dirs": paths, "workers.max": "8"} | (settings or {}))

    def create(self, *topics: str) -> None:
        """Topics of one partition each, which are led when this returns."""
        with wire.Connection(wire.address(self.bootstrap)) as connection:
            for topic in topics:
                wire.create_topic(connection, topic)

    def dir_of(self, topic: str) -> Path:
        """Where the one partition of a topic lies."""
        (found,) = [path for path in self.dirs if (path / f"{topic}-0").exists()]
        return found

    def topic_in(self, directory: Path) -> str:
        """A topic with a partition there."""
        return next(path.name for path in sorted(directory.glob("*-0")) if path.name[:2] != "__")[:-2]

    def described(self) -> dict[str, DescribeLogDirsResponseResult]:
        """What DescribeLogDirs says of each directory."""
        with Cluster(self.bootstrap) as cluster:
            answer = cluster.any_connection().request(
                DESCRIBE_LOG_DIRS, DescribeLogDirsRequest(None), DescribeLogDirsResponse
            )
        return {result.log_dir: result for result in answer.results}

    def partitions(self, topic: str) -> list[MetadataResponsePartition]:
        """What Metadata says of a topic's partitions."""
        with Cluster(self.bootstrap) as cluster:
            return cluster.metadata([topic]).topics[0].partitions

    def partition(self, topic: str) -> MetadataResponsePartition:
        """Of its one partition."""
        return self.partitions(topic)[0]

    def status(self) -> BrokerStatus:
        """Of the processes and directories."""
        found = read_status(str(self.dirs[0]))
        assert found is not None
        return found

    def pids(self, role: str) -> list[int]:
        """The processes of a role that serve."""
        return [
            process.pid
            for process in self.status().processes
            if process.role == role and process.state == "ready"
        ]

    def worker_of(self, topic: str) -> int:
        """The process that leads a topic's one partition."""
        with Cluster(self.bootstrap) as cluster:
            topic_id = cluster.metadata([topic]).topics[0].topic_id
        (pid,) = [
            process.pid
            for process in self.status().processes
            if any(owned.topic_id == topic_id for owned in process.partitions)
        ]
        return pid

    def end_of(self, topic: str) -> int:
        """Reads the topic from its start, once it is led; where that ends, or minus the error code."""
        offset = 0
        with wire.Connection(wire.address(self.bootstrap)) as connection:
            while True:
                frame = connection.ask(wire.fetch_frame(topic, offset, 1 << 19))
                fetched = wire.fetch_response(frame)
                if fetched.error_code == NOT_LEADER_OR_FOLLOWER:
                    continue
                if fetched.error_code:
                    return -fetched.error_code
                if offset == fetched.high_watermark:
                    return offset
                offset = wire.next_offset(frame, fetched.start, fetched.length)

    def said(self) -> str:
        """All that it wrote to stderr."""
        return self.log_file.read_text()


AnyBroker = TypeVar("AnyBroker", bound=Broker)


@contextmanager
def brokers_of(kind: type[AnyBroker], directory: Path) -> Generator[Callable[..., AnyBroker]]:
    """Makes brokers with small segments, from the names of their directories and settings with _ for dots;
    they are stopped at the end.
    """
    made: list[AnyBroker] = []

    def make(*names: str, **settings: str) -> AnyBroker:
        given = {name.replace("_", "."): value for name, value in settings.items()}
        made.append(kind(directory, names, SMALL_SEGMENTS | given))
        return made[-1]

    try:
        yield make
    finally:
        for broker in made:
            broker.stop()


class Load:
    """Writes to a topic until it is stopped: what was acknowledged, and which errors came."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self.topic = topic
        self.end = 0  # of what was acknowledged
        self.errors: set[int] = set()
        self.count = 0  # of answers
        self._address = wire.address(broker.bootstrap)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """No more is written when this returns."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        error_at = 4 + 1 + 1 + len(wire.compact(self.topic)) + 1 + 4
        with wire.Connection(self._address) as connection:
            while not self._stopped.wait(PACE_S):
                answer = connection.ask(wire.produce_frame(self.topic, BATCH, -1, 0))
                error, base_offset = struct.unpack_from(">hq", answer, error_at)
                if error:
                    self.errors.add(error)
                else:
                    self.end = base_offset + RECORDS
                self.count += 1


@contextmanager
def load(broker: Broker, *topics: str) -> Generator[list[Load], None, None]:
    """Somebody writes to each of the topics meanwhile."""
    loads = [Load(broker, topic) for topic in topics]
    try:
        yield loads
    finally:
        for writer in loads:
            writer.stop()


class Loss:
    """A way to lose a log directory while a broker writes to it, and to get it back."""

    errno_text = "No such file or directory"
    keeps_data = True

    def prepare(self, directory: Path) -> None:
        """Before the broker is started."""

    def strike(self, broker: Broker, topic: str, directory: Path) -> None:
        """The directory is lost."""
        raise NotImplementedError

    def mend(self, directory: Path) -> None:
        """It is back, once the broker is gone."""


class Renamed(Loss):
    """Somebody moves it away."""

    def strike(self, broker: Broker, topic: str, directory: Path) -> None:
        del broker, topic
        directory.rename(directory.with_name("away"))

    def mend(self, directory: Path) -> None:
        assert not directory.exists(), "nothing was made in its place"
        directory.with_name("away").rename(directory)


class Deleted(Loss):
    """Somebody deletes it."""

    keeps_data = False

    def strike(self, broker: Broker, topic: str, directory: Path) -> None:
        del broker, topic
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)  # what came while the first went


class Unmounted(Loss):
    """Its file system is unmounted, lazily."""

    def prepare(self, directory: Path) -> None:
        require_mounts(directory)
        self._mount(directory)

    def _mount(self, directory: Path) -> None:
        store = directory.with_name("store")
        store.mkdir(exist_ok=True)
        mount("--bind", str(store), str(directory))

    def strike(self, broker: Broker, topic: str, directory: Path) -> None:
        del broker, topic
        unmount(directory)

    def mend(self, directory: Path) -> None:
        assert not list(directory.iterdir()), "nothing was made in its place"
        self._mount(directory)


class ReadOnly(Loss):
    """It can only be read from now on."""

    errno_text = "Read-only file system"

    def prepare(self, directory: Path) -> None:
        require_mounts(directory)

    def strike(self, broker: Broker, topic: str, directory: Path) -> None:
        del broker, topic
        self.strike_at(directory)

    @staticmethod
    def strike_at(directory: Path) -> None:
        """The same without a broker."""
        mount("--bind", str(directory), str(directory))
        mount("-o", "remount,bind,ro", str(directory))

    def mend(self, directory: Path) -> None:
        unmount(directory)


class Cut(Loss):
    """A segment loses the pages that its worker has mapped: SIGBUS."""

    errno_text = "Input/output error"
    keeps_data = False

    def strike(self, broker: Broker, topic: str, directory: Path) -> None:
        del broker
        os.truncate(directory / f"{topic}-0" / f"{0:020d}.log", 0)


class Failing(Loss):
    """The disk answers EIO, once, to this system call of the worker."""

    errno_text = "Input/output error"

    def __init__(self, call: str) -> None:
        self._call = call
        self._traces: list[subprocess.Popen[bytes]] = []

    def prepare(self, directory: Path) -> None:
        del directory
        require_tracing()

    def strike(self, broker: Broker, topic: str, directory: Path) -> None:
        del directory
        self.strike_at(broker.worker_of(topic))

    def strike_at(self, pid: int) -> None:
        """This process is struck from the moment on at which it is traced."""
        command = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid)]
        command += ["-e", f"trace={self._call}", "-e", f"inject={self._call}:error=EIO:when=1"]
        self._traces.append(subprocess.Popen(command))
        wait_until(lambda: is_traced(pid), "the tracer")

    def mend(self, directory: Path) -> None:
        del directory
        for trace in self._traces:
            trace.terminate()
            trace.wait()


def mount(*arguments: str) -> None:
    """The command of that name."""
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def unmount(directory: Path) -> None:
    """As long as something has a file open there, the file system itself stays."""
    subprocess.run(["umount", "-l", str(directory)], check=True, capture_output=True)


def unmount_all(directory: Path) -> None:
    """Nothing is mounted there any more."""
    with suppress(OSError, subprocess.CalledProcessError):
        while True:
            unmount(directory)


def require_mounts(directory: Path) -> None:
    """Skip the test where nothing may be mounted; makes the directory."""
    directory.mkdir(exist_ok=True)
    try:
        mount("--bind", str(directory), str(directory))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing may be mounted here: root and CAP_SYS_ADMIN are needed")
    unmount(directory)


def is_traced(pid: int) -> bool:
    """Whether somebody looks at its system calls."""
    status = Path(f"/proc/{pid}/status").read_text()
    return "TracerPid:\t0\n" not in status


def require_tracing() -> None:
    """Skip the test where strace is not there or may not inject errors."""
    command = ["strace", "-qq", "-o", "/dev/null", "-e", "inject=ftruncate:error=EIO", "true"]
    if shutil.which("strace") is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("strace is needed to have a disk fail")
