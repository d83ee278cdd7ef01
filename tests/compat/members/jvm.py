"""Apache's own consumers and tools, in one JVM that takes commands (tests/compat/java/ClientHost.java)."""

import struct
import subprocess
import threading
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import NamedTuple

from perf.peers import jars
from tests.compat.clients.java import QUIET, compiled
from tests.compat.clients.java import Java as MatrixJava
from tests.compat.members.member import PATIENCE_S, CommitFailedError, Member, Message, Place, Wish

PROGRAM = Path(__file__).parents[1] / "java"
ASSIGNORS = {
    "range": "RangeAssignor",
    "roundrobin": "RoundRobinAssignor",
    "cooperative-sticky": "CooperativeStickyAssignor",
}


class JavaError(Exception):
    """What the program threw: the class, then the message."""


TOOLS = "org.apache.kafka.tools"  # their package


class Ran(NamedTuple):
    """A command line tool that has ended."""

    code: int
    out: str
    err: str


class Jvm:
    """The process; started when it is first asked."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def ask(self, *command: str) -> list[str]:
        """One command, its answer without the leading "ok".

        Raises:
            JavaError: it failed.
        """
        words = [word.encode() for word in command]
        sized = b"".join(struct.pack(">i", len(word)) + word for word in words)
        with self._lock:
            process = self._process or self._start()
            assert process.stdin is not None
            process.stdin.write(struct.pack(">i", len(words)) + sized)
            process.stdin.flush()
            answer = [self._read(self._read_int()).decode() for _ in range(self._read_int())]
        if answer[0] != "ok":
            raise JavaError(*answer[1:])
        return answer[1:]

    def tool(self, name: str, *arguments: str, given: str = "") -> Ran:
        """Run the main of a class of Kafka's tools as its script would."""
        code, out, err = self.ask("tool", given, name, *arguments)
        return Ran(int(code), out, err)

    def stop(self) -> None:
        """End it; consumers that are still there are closed first."""
        if self._process is not None:
            self._process.communicate(timeout=30)
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        classes = compiled("ClientHost.java", "Members.java", "Tools.java")
        command = ["java", *QUIET, "-cp", jars.class_path(classes), "ClientHost"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        return self._process

    def _read_int(self) -> int:
        return int(struct.unpack(">i", self._read(4))[0])

    def _read(self, size: int) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        assert len(data) == size, f"the JVM ended: {self._process.poll()}"
        return data


class Tools:
    """Kafka's command line tools, asked about one cluster."""

    def __init__(self, jvm: Jvm, bootstrap: str) -> None:
        self.jvm, self.bootstrap = jvm, bootstrap

    def run(self, tool: str, *arguments: str, given: str = "") -> Ran:
        """Run one; it may fail."""
        return self.jvm.tool(tool, "--bootstrap-server", self.bootstrap, *arguments, given=given)

    def says(self, tool: str, *arguments: str, given: str = "") -> str:
        """Its output; it must succeed."""
        ran = self.run(tool, *arguments, given=given)
        assert ran.code == 0, ran.out + ran.err
        return ran.out


def run_alone(name: str, *arguments: str) -> Ran:
    """Run the main of a class in a JVM of its own, for tools that only end with their process."""
    command = ["java", *QUIET, "-cp", jars.class_path(), name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


class JavaMember:
    """A KafkaConsumer in the JVM."""

    def __init__(self, jvm: Jvm, name: str, wish: Wish) -> None:
        self._jvm, self._name = jvm, name
        settings = {
            "bootstrap.servers": wish.bootstrap,
            "group.id": wish.group,
            "auto.offset.reset": wish.reset,
            "enable.auto.commit": str(wish.auto_commit).lower(),
        }
        if wish.strategy == "consumer":
            settings["group.protocol"] = "consumer"
        else:
            assignor = ASSIGNORS[wish.strategy]
            settings["partition.assignment.strategy"] = f"org.apache.kafka.clients.consumer.{assignor}"
            settings["heartbeat.interval.ms"] = "200"
        if wish.instance:
            settings["group.instance.id"] = wish.instance
        self._ask("open", *(f"{key}={value}" for key, value in settings.items()))
        self._ask("subscribe", *wish.topics)

    def _ask(self, verb: str, *rest: str) -> list[str]:
        return self._jvm.ask(verb, self._name, *rest)

    def poll(self, seconds: float) -> list[Message]:
        found: list[Message] = []
        for line in self._ask("poll", str(int(seconds * 1000))):
            topic, partition, offset, value = line.split(":", 3)
            found.append(Message(Place(topic, int(partition)), int(offset), value))
        return found

    def assignment(self) -> set[Place]:
        return set(_places(self._ask("assignment")))

    def revoked(self) -> list[Place]:
        return _places(self._ask("revoked"))

    def commit(self) -> None:
        try:
            self._ask("commit")
        except JavaError as error:
            raise CommitFailedError(*error.args) from error

    def commit_later(self) -> None:
        self._ask("commit-async")

    def commits_done(self) -> list[str | None]:
        return [None if one == "ok" else one for one in self._ask("commits")]

    def commit_at(self, place: Place, offset: int, metadata: str) -> None:
        self._ask("commit", f"{_shown(place)}:{offset}:{metadata}")

    def committed(self, place: Place) -> int | None:
        found = self._ask("committed", _shown(place))
        return int(found[0]) if found else None

    def seek(self, place: Place, offset: int) -> None:
        self._ask("seek", f"{_shown(place)}:{offset}")

    def pause(self, places: Iterable[Place]) -> None:
        self._ask("pause", *map(_shown, places))

    def resume(self, places: Iterable[Place]) -> None:
        self._ask("resume", *map(_shown, places))

    def close(self) -> None:
        self._ask("close")


def _shown(place: Place) -> str:
    return f"{place.topic}:{place.partition}"


def _places(shown: list[str]) -> list[Place]:
    parts = [one.rsplit(":", 1) for one in shown]
    return [Place(topic, int(partition)) for topic, partition in parts]


class Java:
    """The reference client."""

    name = "java"
    strategies: tuple[str, ...] = ("range", "roundrobin", "cooperative-sticky", "consumer")

    def __init__(self) -> None:
        self.jvm = Jvm()
        self._numbers = count()

    def missing(self) -> str | None:
        """Jars, a java and a compiler."""
        return MatrixJava().missing()

    def join(self, wish: Wish) -> Member:
        """Subscribe."""
        return JavaMember(self.jvm, str(next(self._numbers)), wish)
