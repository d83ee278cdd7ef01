"""kcat: librdkafka from the command line."""

import shutil
import subprocess

from tests.compat.clients.client import PATIENCE_S, Partitions, Shelf
from tests.compat.corpus import Header, Record

HEADERS = (("tool", b"kcat"), ("place", b"on the command line"))
FORMAT = "%p %o %T %K %S\n%k%s%h\n"


class Kcat:
    """Writes lines with a key before a tab; shows null headers and repeated ones only as text."""

    name = "kcat"

    def missing(self) -> str | None:
        """A program of the system."""
        return None if shutil.which("kcat") else "kcat is not here: run `make peers` as root"

    def able(self, record: Record) -> Record:
        """No nulls, the time of writing, one set of headers for all."""
        return Record(0, record.key or b"no key", record.value or b"no value", HEADERS)

    def seen(self, record: Record) -> Record:
        """Headers as one line of text; here under the name of the tool."""
        text = b",".join(name.encode() + b"=" + _shown(value) for name, value in record.headers)
        return record._replace(headers=(("kcat", text),) if text else ())

    def produce(self, bootstrap: str, topic: str, codec: str, partitions: Partitions) -> None:
        """One run a partition, records as lines on its standard input."""
        named = [part for name, value in HEADERS for part in ("-H", f"{name}={value.decode()}")]
        for partition, records in enumerate(partitions):
            lines = b"".join(_line(record) for record in records)
            where = ["-b", bootstrap, "-t", topic, "-p", str(partition)]
            how = ["-z", codec, "-K", "\t", "-X", "linger.ms=20", "-X", "enable.idempotence=true"]
            subprocess.run(["kcat", "-P", *where, *how, *named], input=lines, check=True, timeout=PATIENCE_S)

    def consume(self, bootstrap: str, counts: dict[str, list[int]]) -> dict[str, Partitions]:
        """One run a topic, until the end of each partition."""
        shelf = Shelf(counts)
        for topic in counts:
            command = [
                "kcat",
                "-C",
                "-q",
                "-b",
                bootstrap,
                "-t",
                topic,
                "-o",
                "beginning",
                "-e",
                "-f",
                FORMAT,
            ]
            done = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE_S)
            _shelve(shelf, topic, done.stdout)
        assert not shelf.left
        return shelf.read


def _line(record: Record) -> bytes:
    assert record.key is not None
    assert record.value is not None
    return b"%b\t%b\n" % (record.key, record.value)


def _shown(value: bytes | None) -> bytes:
    return b"NULL" if value is None else value


def _shelve(shelf: Shelf, topic: str, output: bytes) -> None:
    position = 0
    while position < len(output):
        line_end = output.index(b"\n", position)
        partition, offset, timestamp, key_size, size = map(int, output[position:line_end].split())
        position = line_end + 1
        key, position = _take(output, position, key_size)
        value, position = _take(output, position, size)
        line_end = output.index(b"\n", position)
        text = output[position:line_end]
        headers: tuple[Header, ...] = (("kcat", text),) if text else ()
        position = line_end + 1
        shelf.put(topic, partition, offset, Record(timestamp, key, value, headers))


def _take(output: bytes, position: int, size: int) -> tuple[bytes | None, int]:
    if size < 0:
        return None, position
    return output[position : position + size], position + size
