"""What is built on top of consumers: Kafka Streams and Connect count and copy a real text."""

import re
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from perf import wire
from perf.peers import jars
from tests.compat.clients.java import QUIET, compiled
from tests.compat.corpus import verses
from tests.compat.members.jvm import Java
from tests.compat.members.member import PATIENCE_S
from tests.support.peers import require
from tests.support.waiting import wait_until

ck: Any = import_module("confluent_kafka")
VERSES = 2_000
PARTITIONS = 4
PYTHON = jars.REPOSITORY / ".peers" / "frameworks" / "bin" / "python"
PROGRAMS = Path(__file__).with_name("frameworks")
NUMBERS = count()
WORD = re.compile("[a-z]+")


@pytest.fixture
def name(bootstrap: str) -> str:
    """A new topic `NAME-in` with the text, an empty `NAME-out`; the name is nobody else's."""
    made = f"framework-{time.monotonic_ns()}-{next(NUMBERS)}"
    with wire.Connection(wire.address(bootstrap)) as connection:
        wire.create_topic(connection, f"{made}-in", PARTITIONS)
        wire.create_topic(connection, f"{made}-out", PARTITIONS)
    produce(bootstrap, f"{made}-in", lines())
    return made


def lines() -> list[str]:
    """The text."""
    return [text for _, text in verses()[:VERSES]]


def words() -> Counter[str]:
    """What everybody has to find."""
    return Counter(word for line in lines() for word in WORD.findall(line.lower()))


def produce(bootstrap: str, topic: str, values: Iterable[str]) -> None:
    """Values without keys, spread over the partitions."""
    producer = ck.Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    for number, value in enumerate(values):
        producer.produce(topic, value, partition=number % PARTITIONS)
    assert producer.flush(PATIENCE_S) == 0


@contextmanager
def reader(bootstrap: str, topic: str) -> Generator[Any, None, None]:
    """A consumer of the whole topic, in no group."""
    consumer = ck.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "nobody", "enable.auto.commit": False}
    )
    begin = ck.OFFSET_BEGINNING
    consumer.assign([ck.TopicPartition(topic, index, begin) for index in range(PARTITIONS)])
    try:
        yield consumer
    finally:
        consumer.close()


def last_counts(bootstrap: str, topic: str, running: subprocess.Popen[bytes], wanted: Counter[str]) -> None:
    """Read the latest count of each word until all are as they have to be."""
    found: dict[str, int] = {}
    with reader(bootstrap, topic) as consumer:

        def read_more() -> bool:
            assert running.poll() is None, "it ended"
            for message in consumer.consume(5_000, 0.2):
                assert message.error() is None, message.error()
                raw: bytes = message.value()
                number = struct.unpack(">q", raw)[0] if len(raw) == 8 else int(raw)
                found[message.key().decode()] = number
            return found == wanted

        wait_until(read_more, "the right count of every word", 60)


@contextmanager
def running(*command: str, log: Path) -> Generator[subprocess.Popen[bytes], None, None]:
    """A program that runs until its standard input ends; what it says is shown if the test fails."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=out, cwd=log.parent)
        try:
            yield process
            process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, log.read_text()[-3000:]
        finally:
            process.kill()
            process.communicate()
            print(log.read_text()[-3000:], file=sys.stderr)


def test_streams_counts_the_words_of_a_text(bootstrap: str, name: str, tmp_path: Path) -> None:
    require(Java().missing())
    program = ("java", *QUIET, "-cp", jars.class_path(compiled("WordCount.java")), "WordCount")
    arguments = (bootstrap, name, str(tmp_path / "state"), f"{name}-in", f"{name}-out")
    with running(*program, *arguments, log=tmp_path / "streams.log") as process:
        last_counts(bootstrap, f"{name}-out", process, words())


CONNECT = """\
bootstrap.servers={bootstrap}
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
offset.storage.file.filename={folder}/connect.offsets
offset.flush.interval.ms=500
listeners=http://127.0.0.1:0
plugin.discovery=service_load
"""
SOURCE = """\
name={name}-source
connector.class=org.apache.kafka.connect.file.FileStreamSourceConnector
tasks.max=1
file={folder}/source.txt
topic={name}-copied
"""
SINK = """\
name={name}-sink
connector.class=org.apache.kafka.connect.file.FileStreamSinkConnector
tasks.max=1
file={folder}/sink.txt
topics={name}-copied
consumer.override.auto.offset.reset=earliest
"""


def test_connect_copies_a_file_through_a_topic(bootstrap: str, name: str, tmp_path: Path) -> None:
    require(Java().missing())
    (tmp_path / "source.txt").write_text("".join(f"{line}\n" for line in lines()))
    files = {"worker": CONNECT, "source": SOURCE, "sink": SINK}
    for file, text in files.items():
        given = text.format(bootstrap=bootstrap, name=name, folder=tmp_path)
        (tmp_path / f"{file}.properties").write_text(given)
    properties = [str(tmp_path / f"{file}.properties") for file in files]
    command = ["java", *QUIET, "-cp", jars.class_path(), "org.apache.kafka.connect.cli.ConnectStandalone"]
    sink, log = tmp_path / "sink.txt", tmp_path / "connect.log"
    with log.open("wb") as out:
        process = subprocess.Popen([*command, *properties], stdout=out, stderr=out)
        try:

            def copied() -> bool:
                assert process.poll() is None, log.read_text()[-3000:]
                return sink.exists() and sink.read_text().count("\n") >= VERSES

            wait_until(copied, "the last line", 90)
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE_S)
    assert sink.read_text() == (tmp_path / "source.txt").read_text()


@pytest.mark.full
@pytest.mark.parametrize("framework", ["faust", "quix"])
def test_python_frameworks_count_the_words_of_a_text(
    framework: str, bootstrap: str, name: str, tmp_path: Path
) -> None:
    require(None if PYTHON.exists() else "Faust and Quix Streams are not here: run `make compat`")
    program = (str(PYTHON), str(PROGRAMS / f"{framework}_words.py"))
    arguments = (bootstrap, name, f"{name}-in", f"{name}-out", str(tmp_path))
    with running(*program, *arguments, log=tmp_path / f"{framework}.log") as process:
        last_counts(bootstrap, f"{name}-out", process, words())
