"""What the matrix asks of a client: write records with a codec, read partitions from the beginning."""

from typing import Protocol

from tests.compat.corpus import Record, records

Partitions = list[list[Record]]  # by partition, in order
PATIENCE_S = 240.0
TRAVELLERS = 300  # records, of which each partition has some
FIRST_MS = 1_700_000_000_000


class Client(Protocol):
    """One client library or tool."""

    name: str

    def missing(self) -> str | None:
        """Why it cannot run on this machine, None when it can."""
        ...

    def able(self, record: Record) -> Record:
        """The record as far as this client can write it."""
        ...

    def seen(self, record: Record) -> Record:
        """The record as far as this client can show it."""
        ...

    def produce(self, bootstrap: str, topic: str, codec: str, partitions: Partitions) -> None:
        """Write all records, each to its partition, in order; return when all are acknowledged."""
        ...

    def consume(self, bootstrap: str, counts: dict[str, list[int]]) -> dict[str, Partitions]:
        """Read so many records of each partition of each topic; offsets are checked to be 0, 1, 2..."""
        ...


class Whole:
    """A client that can write and show everything a record holds."""

    def missing(self) -> str | None:
        """It comes with the dev extra."""
        return None

    def able(self, record: Record) -> Record:
        """Everything."""
        return record

    def seen(self, record: Record) -> Record:
        """Everything."""
        return record


def check_travel(client: Client, topic: str, partitions: int, written_at: str, read_at: str) -> None:
    """What the client writes to a new topic of up to four partitions through one broker it reads through
    another; it is told of no more.
    """
    corpus = [*records(TRAVELLERS, FIRST_MS), *records(TRAVELLERS, FIRST_MS, TRAVELLERS)][:partitions]
    written = [[client.able(record) for record in each] for each in corpus]
    client.produce(written_at, topic, "none", written)
    read = client.consume(read_at, {topic: [len(each) for each in written]})
    assert read[topic] == [[client.seen(record) for record in each] for each in written]


class Shelf:
    """Collects what a consumer reads, and checks offsets as they come."""

    def __init__(self, counts: dict[str, list[int]]) -> None:
        self.read: dict[str, Partitions] = {topic: [[] for _ in each] for topic, each in counts.items()}
        self.left = sum(sum(each) for each in counts.values())

    def put(self, topic: str, partition: int, offset: int, record: Record) -> None:
        """The next record of a partition."""
        records = self.read[topic][partition]
        assert offset == len(records), f"{topic}-{partition}: offset {offset} after {len(records)} records"
        records.append(record)
        self.left -= 1
