"""Apache's Java client, through a small program that speaks in records on its standard input and output."""

import contextlib
import shutil
import struct
import subprocess
import tempfile
import zlib
from functools import cache
from pathlib import Path

from perf.peers import jars
from tests.compat.clients.client import PATIENCE_S, Partitions, Shelf, Whole
from tests.compat.corpus import Header, Record

PROGRAMS = Path(__file__).parents[1] / "java"
QUIET = ("-Xmx512M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")  # short runs: start soon, stay small


@cache
def compiled(*names: str) -> Path:
    """A program's classes; compiled once and kept beside the jars under the checksum of its sources."""
    folder = jars.jars()
    assert folder is not None, jars.MISSING
    sources = [PROGRAMS / name for name in names]
    checksum = zlib.crc32(b"".join(source.read_bytes() for source in sources))
    kept = folder.parent / f"classes-{checksum:08x}"
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="javac-") as made:
            out = Path(made) / "classes"
            command = ["javac", "-cp", jars.class_path(), "-d", str(out), *map(str, sources)]
            subprocess.run(command, check=True)
            with contextlib.suppress(OSError):  # another test process was first
                out.rename(kept)
    return kept


def run(arguments: list[str], given: bytes = b"") -> bytes:
    """Run the program; returns what it wrote."""
    command = [
        "java",
        *QUIET,
        "-cp",
        jars.class_path(compiled("MatrixClient.java")),
        "MatrixClient",
        *arguments,
    ]
    done = subprocess.run(command, input=given, capture_output=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    return done.stdout


class Java(Whole):
    """The reference client."""

    name = "java"

    def missing(self) -> str | None:
        """Jars, a java and a compiler."""
        if not jars.available():
            return jars.MISSING
        return None if shutil.which("javac") else "javac is not here: install a JDK, then run `make peers`"

    def produce(self, bootstrap: str, topic: str, codec: str, partitions: Partitions) -> None:
        """Write all; the program waits for every acknowledgement."""
        parts = [struct.pack(">i", sum(map(len, partitions)))]
        for partition, records in enumerate(partitions):
            parts.extend(_written(partition, record) for record in records)
        run(["produce", bootstrap, topic, codec], b"".join(parts))

    def consume(self, bootstrap: str, counts: dict[str, list[int]]) -> dict[str, Partitions]:
        """Read with assign(), without a group."""
        places = [
            f"{topic}:{index}:{count}" for topic, each in counts.items() for index, count in enumerate(each)
        ]
        output, shelf, position = run(["consume", bootstrap, *places]), Shelf(counts), 0
        while position < len(output):
            topic, position = _bytes(output, position)
            assert topic is not None
            partition, offset, timestamp = struct.unpack_from(">iqq", output, position)
            key, position = _bytes(output, position + 20)
            value, position = _bytes(output, position)
            headers, position = _headers(output, position)
            shelf.put(topic.decode(), partition, offset, Record(timestamp, key, value, headers))
        return shelf.read


def _sized(data: bytes | None) -> bytes:
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data


def _written(partition: int, record: Record) -> bytes:
    headers = b"".join(_sized(name.encode()) + _sized(value) for name, value in record.headers)
    head = struct.pack(">iqq", partition, -1, record.timestamp_ms)
    return head + _sized(record.key) + _sized(record.value) + struct.pack(">i", len(record.headers)) + headers


def _bytes(data: bytes, position: int) -> tuple[bytes | None, int]:
    (length,) = struct.unpack_from(">i", data, position)
    position += 4
    return (None, position) if length < 0 else (data[position : position + length], position + length)


def _headers(data: bytes, position: int) -> tuple[tuple[Header, ...], int]:
    (count,) = struct.unpack_from(">i", data, position)
    position += 4
    headers: list[Header] = []
    for _ in range(count):
        name, position = _bytes(data, position)
        value, position = _bytes(data, position)
        assert name is not None
        headers.append((name.decode(), value))
    return tuple(headers), position
