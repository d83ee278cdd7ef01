"""Apache Kafka in KRaft mode, run from its jars with the flags its own scripts use."""

import subprocess
from pathlib import Path

from perf.peers.jars import class_path
from perf.peers.peer import Endpoint, Tcp, free_port, stop_process

# As kafka-server-start.sh and kafka-run-class.sh start it.
HEAP = ("-Xmx1G", "-Xms1G")
JVM_FLAGS = (
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
)

LOGGING = """\
status=ERROR
name=peer
appender.out.type=Console
appender.out.name=OUT
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=[%d] %p %m (%c)%n
rootLogger.level=WARN
rootLogger.appenderRef.out.ref=OUT
"""

CLUSTER_ID = "dGFpbHJhY2UtcGVlci0wMQ"


ALWAYS = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "num.partitions": "1",
    "log.retention.hours": "-1",  # the records are of 2023: it would remove them soon
    # A deleted topic gives its space back at once: its pages must not slow the next workload.
    "log.segment.delete.delay.ms": "500",
}


class Node:
    """One process that is broker and controller, in `directory`; heap and collector as Kafka's own scripts
    choose them.
    """

    def __init__(
        self,
        directory: Path,
        node_id: int,
        ports: tuple[int, int],
        settings: dict[str, str],
        voters: str = "",
    ) -> None:
        """`ports`: the broker's and the controller's. `voters`: of a quorum that can change, as
        `kafka-storage format` takes them.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.log_file = directory / "server.out"
        self.address = Tcp("127.0.0.1", ports[0])
        self._voters = voters
        self._process: subprocess.Popen[bytes] | None = None
        self._properties = directory / "server.properties"
        self._logging = directory / "log4j2.properties"
        self._logging.write_text(LOGGING)
        own = {
            "node.id": str(node_id),
            "listeners": f"PLAINTEXT://127.0.0.1:{ports[0]},CONTROLLER://127.0.0.1:{ports[1]}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{ports[0]}",
            "log.dirs": str(directory / "data"),
        }
        lines = (f"{key}={value}\n" for key, value in {**ALWAYS, **own, **settings}.items())
        self._properties.write_text("".join(lines))

    @property
    def pid(self) -> int:
        """The Java process."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started, and neither stopped nor killed since."""
        return self._process is not None

    def format(self) -> None:
        """Write the storage's identity, once in the life of a data directory."""
        voters = ["--initial-controllers", self._voters] if self._voters else []
        tool = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(self._properties), *voters]
        done = subprocess.run(
            self._java(("-Xmx256M", "-XX:TieredStopAtLevel=1"), *tool), capture_output=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"Kafka's storage tool failed: {done.stdout.decode()}{done.stderr.decode()}")

    def start(self) -> None:
        """Start it, on storage that is made when it is missing; returns before it serves."""
        if not (self.directory / "data" / "meta.properties").exists():
            self.format()
        command = self._java((*HEAP, *JVM_FLAGS), "kafka.Kafka", str(self._properties))
        with self.log_file.open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, cwd=self.directory)

    def terminate(self) -> None:
        """Ask it to stop."""
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> None:
        """Stop it in order and wait until it is gone."""
        if self._process is not None:
            stop_process(self._process, grace_s=30)
            self._process = None

    def kill(self) -> None:
        """SIGKILL; returns when it is dead."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _java(self, flags: tuple[str, ...], main: str, *arguments: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self._logging}"
        return ["java", *flags, logging, "-cp", class_path(), main, *arguments]


class Kafka(Node):
    """A cluster of one, as Kafka's own config/server.properties sets it."""

    name = "kafka"

    def __init__(self, directory: Path, settings: dict[str, str] | None = None) -> None:
        ports = free_port(), free_port()
        alone = {
            "controller.quorum.voters": f"1@127.0.0.1:{ports[1]}",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
        }
        super().__init__(directory, 1, ports, {**alone, **(settings or {})})

    def endpoints(self) -> dict[str, Endpoint]:
        return {"tcp": self.address}
