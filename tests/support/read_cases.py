"""Fetch and ListOffsets as clients should not send them, and as they should: the same for any broker."""

from typing import Any

from tailrace.core.protocol.apis import FETCH, LIST_OFFSETS, PRODUCE
from tailrace.core.protocol.messages.fetch import (
    FetchRequest,
    FetchRequestForgottenTopic,
    FetchRequestPartition,
    FetchRequestReplicaState,
    FetchRequestTopic,
)
from tailrace.core.protocol.messages.list_offsets import (
    ListOffsetsRequest,
    ListOffsetsRequestPartition,
    ListOffsetsRequestTopic,
)
from tailrace.core.records.record import NewRecord, build_batch
from tests.support.batches import PAST_MS, batch
from tests.support.data_cases import PARTITIONS, UNKNOWN_ID, Cluster, produce
from tests.support.raw_client import Outcome, RawClient

BATCHES = 4  # of 3 records each
END = 3 * BATCHES


class Reading:
    """A partition with some batches, an empty one, and fetches of them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.full, self.empty = cluster.partition(), cluster.partition()
        for _ in range(BATCHES):
            cluster.client.ask(PRODUCE, 9, produce("data", self.full, batch()))

    def part(self, partition: int | None = None, offset: int = 0, **more: Any) -> FetchRequestPartition:
        """A partition of a fetch, by default the one with batches."""
        index = self.full if partition is None else partition
        more = {"partition_max_bytes": 1 << 20} | more
        return FetchRequestPartition(index, fetch_offset=offset, **more)

    def topic(self, version: int, *parts: FetchRequestPartition, name: str = "data") -> FetchRequestTopic:
        """A topic of a fetch as the version names it."""
        topic_id = self.cluster.ids.get(name, UNKNOWN_ID) if version >= 13 else bytes(16)
        return FetchRequestTopic(name if version < 13 else "", topic_id, list(parts))

    def forgotten(self, version: int, *parts: int) -> list[FetchRequestForgottenTopic]:
        """Partitions that leave a session."""
        topic = self.topic(version)
        return [FetchRequestForgottenTopic(topic.topic, topic.topic_id, list(parts))]

    def fetch(self, what: str, version: int, *topics: FetchRequestTopic, **more: Any) -> Outcome:
        """Ask and keep the answer."""
        outcome = fetched(self.cluster.client, version, *topics, **more)
        self.cluster.keep(f"Fetch v{version}: {what}", outcome)
        return outcome


def fetched(client: RawClient, version: int, *topics: FetchRequestTopic, **more: Any) -> Outcome:
    """One answer."""
    given: dict[str, Any] = {"max_wait_ms": 0, "min_bytes": 1, "topics": list(topics)}
    message = FetchRequest(**(given | more))
    return client.ask(FETCH, version, message)


def fetches(cluster: Cluster) -> None:
    """Every version; offsets, epochs and sizes, good and bad."""
    reading = Reading(cluster)
    fetch, part, topic, empty = reading.fetch, reading.part, reading.topic, reading.empty
    for version in range(4, 19):
        fetch("good", version, topic(version, part(offset=4), part(empty)))
        fetch("unknown topic", version, topic(version, part(0), name="absent"))
        fetch("unknown partitions", version, topic(version, part(PARTITIONS), part(-1), part()))
        fetch("out of range", version, topic(version, part(offset=END + 1)))
        fetch("committed, out of range", version, topic(version, part(offset=99)), isolation_level=1)
        fetch("committed", version, topic(version, part(), part(empty)), isolation_level=1)
        if version >= 9:
            fetch("newer epoch", version, topic(version, part(current_leader_epoch=9), part(empty)))
    for offset in (-1, -2, END, 2**62):
        fetch(f"offset {offset}", 12, topic(12, part(offset=offset)))
    fetch("epoch 0", 13, topic(13, part(current_leader_epoch=0)))
    fetch("epoch -2", 13, topic(13, part(current_leader_epoch=-2)))
    for epoch, at in ((0, 3), (0, END), (1, 3), (5, 3), (-2, 3)):
        fetch(f"last fetched epoch {epoch} at {at}", 13, topic(13, part(offset=at, last_fetched_epoch=epoch)))
    one = len(batch())
    for size in (0, 1, one - 1, one, one + 1, 2 * one, -1):
        fetch(f"max bytes {size}", 12, topic(12, part(), part(offset=3)), max_bytes=size)
        fetch(f"partition max bytes {size}", 12, topic(12, part(partition_max_bytes=size)))
        small = [part(partition_max_bytes=size), part(offset=3, partition_max_bytes=size)]
        fetch(
            f"two of max bytes {size}",
            12,
            topic(12, part(empty), small[0]),
            topic(12, small[1], name="absent"),
        )
    for version in (4, 9, 10, 13):
        fetch("zstd by configuration", version, topic(version, part(0), name="zstd"))
        for size in (1, one, one + 1, 2 * one + 1):
            topics = (
                topic(version, part(empty)),
                topic(version, part(0), name="recent"),
                topic(version, part(offset=3)),
            )
            fetch(f"three topics, max bytes {size}", version, *topics, max_bytes=size)


def waits(cluster: Cluster) -> None:
    """What ends a wait; odd values of the other fields."""
    reading = Reading(cluster)
    fetch, part, topic, empty = reading.fetch, reading.part, reading.topic, reading.empty
    one = len(batch())
    fetch("enough", 12, topic(12, part()), min_bytes=one, max_wait_ms=60_000)
    fetch("more than there is, with a wait", 12, topic(12, part()), min_bytes=1 << 20, max_wait_ms=20)
    fetch("nothing, with a wait", 12, topic(12, part(empty)), max_wait_ms=20)
    fetch("min bytes 0", 12, topic(12, part(empty)), min_bytes=0, max_wait_ms=60_000)
    fetch("negative wait", 12, topic(12, part(empty)), max_wait_ms=-1)
    fetch("min bytes negative", 12, topic(12, part(empty)), min_bytes=-1, max_wait_ms=60_000)
    fetch("an error with a wait", 12, topic(12, part(empty), part(PARTITIONS)), max_wait_ms=20)
    fetch("nothing but errors", 12, topic(12, part(PARTITIONS)), max_wait_ms=60_000)
    fetch("out of range with a wait", 12, topic(12, part(empty), part(offset=99)), max_wait_ms=60_000)
    fetch("no topics", 12, max_wait_ms=60_000)
    fetch("no topics, min bytes 0", 13, min_bytes=0)
    fetch("no partitions", 12, topic(12), max_wait_ms=60_000)
    fetch("same twice", 12, topic(12, part(), part(offset=6)))
    fetch("isolation level 2", 12, topic(12, part()), isolation_level=2)
    fetch("cluster id", 12, topic(12, part()), cluster_id="other")
    fetch("rack", 12, topic(12, part()), rack_id="r")
    fetch("replica 5", 12, topic(12, part()), replica_id=5)
    fetch("replica -2", 12, topic(12, part()), replica_id=-2)
    fetch("replica -3", 12, topic(12, part()), replica_id=-3)
    fetch("replica 5", 17, topic(17, part()), replica_state=FetchRequestReplicaState(5, 1))
    fetch("zero id", 13, FetchRequestTopic("", bytes(16), [part()]))
    cluster.keep("Fetch v3", cluster.client.ask(FETCH, 3, b""))
    cluster.keep("Fetch v19", cluster.client.ask(FETCH, 19, b""))


class Session:
    """One consumer's fetch session, as the version has it."""

    def __init__(self, cluster: Cluster, version: int) -> None:
        self.reading = Reading(cluster)
        self.id = self.epoch = 0
        self._cluster, self._version = cluster, version

    def ask(self, what: str, *topics: FetchRequestTopic, at: int = -1, **more: Any) -> int:
        """The session id of the answer, which is kept; the next epoch is asked for after a good one."""
        given: dict[str, Any] = {"session_id": self.id, "session_epoch": self.epoch} | more
        version = self._version if at < 0 else at
        message = FetchRequest(max_wait_ms=0, min_bytes=1, topics=list(topics), **given)
        session_id, outcome = _told(self._cluster.client, version, message)
        self._cluster.keep(f"Fetch v{self._version}: session: {what}", outcome)
        if (
            isinstance(outcome, dict)
            and not outcome["error_code"]
            and not more.keys() & {"session_id", "session_epoch"}
        ):
            self.epoch += 1
        return session_id


def sessions(cluster: Cluster) -> None:
    """KIP-227: ids and epochs, right and wrong."""
    for version in (7, 12, 13, 18):
        session = Session(cluster, version)
        ask, reading = session.ask, session.reading
        topic, part, forgotten = reading.topic, reading.part, reading.forgotten
        both = topic(version, part(), part(reading.empty))
        session.id = ask("opened", both)
        ask("nothing new")
        ask("moved", topic(version, part(offset=6)))
        ask("moved to the end", topic(version, part(offset=END)))
        ask("still nothing")
        ask("epoch again", session_epoch=session.epoch - 1)
        ask("epoch too new", session_epoch=session.epoch + 1)
        ask("other id", session_id=session.id ^ 0x10000000)
        ask("id 0 with an epoch", session_id=0, session_epoch=5)
        ask("unknown partition added", topic(version, part(PARTITIONS)))
        ask("its error again")
        ask("forgotten", forgotten_topics_data=forgotten(version, PARTITIONS))
        ask("out of range", topic(version, part(offset=99)))
        ask("forgotten twice", forgotten_topics_data=forgotten(version, reading.full, reading.full))
        ask("unknown topic added", topic(version, part(0), name="absent"))
        if version >= 12:
            ask("names instead of ids, or ids instead of names", at=12 if version >= 13 else 13)
        ask("last forgotten", forgotten_topics_data=forgotten(version, reading.empty))
        ask("closed", session_epoch=-1)
        ask("after its end", session_epoch=session.epoch)
        ask("no partitions", session_id=0, session_epoch=0)
        again = ask("opened again", both, session_id=0, session_epoch=0)
        ask("replaced", both, session_id=again, session_epoch=0)
        ask("the replaced one", session_id=again, session_epoch=1)
        ask("full, no session", both, session_id=0, session_epoch=-1)
        ask("epoch -2", both, session_id=0, session_epoch=-2)


def _told(client: RawClient, version: int, message: FetchRequest) -> tuple[int, Outcome]:
    """The session id that an answer names, which its outcome leaves out."""
    outcome = client.ask(FETCH, version, message)
    if not isinstance(outcome, dict):
        return 0, outcome
    at = 4 + (version >= 12) + 4 + 2  # correlation id, tags, throttle time, error code
    return int.from_bytes(client.last[at : at + 4], signed=True), outcome


def offsets(cluster: Cluster) -> None:
    """ListOffsets: places, times, epochs, versions."""
    reading = Reading(cluster)

    def ask(what: str, version: int, *asked: tuple[int, int, int], name: str = "data", **more: Any) -> None:
        parts = [ListOffsetsRequestPartition(index, epoch, timestamp) for index, epoch, timestamp in asked]
        given: dict[str, Any] = {"replica_id": -1, "topics": [ListOffsetsRequestTopic(name, parts)]}
        message = ListOffsetsRequest(**(given | more))
        outcome = cluster.client.ask(LIST_OFFSETS, version, message)
        cluster.keep(f"ListOffsets v{version}: {what}", outcome)

    full, empty = reading.full, reading.empty
    for version in range(1, 12):
        for timestamp in range(-8, 1):
            ask(f"{timestamp}", version, (full, -1, timestamp))
            ask(f"{timestamp} of nothing", version, (empty, -1, timestamp))
        ask("unknown", version, (PARTITIONS, -1, -1), (-1, -1, -1), (full, -1, -1))
        ask("unknown topic", version, (0, -1, -1), name="absent")
        if version >= 4:
            for epoch in (0, 1, -2):
                ask(f"epoch {epoch}", version, (full, epoch, -1))
        if version >= 2:
            ask("committed", version, (full, -1, -1), isolation_level=1)
    for after in (-1, 0, 1, 2, 3):
        ask(f"time {after}", 7, (full, -1, PAST_MS + after))
    for codec in range(5):
        mixed = cluster.partition()
        for deltas in ((5, 1, 9), (3, 9, 2), (-1, 9, 4)):
            made = [NewRecord(value=b"v", timestamp=PAST_MS + delta) for delta in deltas]
            cluster.client.ask(PRODUCE, 9, produce("data", mixed, bytes(build_batch(made, codec=codec))))
        for timestamp in (-3, *(PAST_MS + after for after in (-2, -1, 0, 1, 3, 5, 6, 9, 10))):
            at = timestamp - PAST_MS if timestamp > 0 else timestamp
            ask(f"codec {codec}, mixed times, {at}", 7, (mixed, -1, timestamp))
    ask("twice", 7, (full, -1, -1), (full, -1, -1))
    ask("no partitions", 7)
    ask("no topics", 7, topics=[])
    for replica in (-2, -3, 0, 5):
        ask(f"replica {replica}", 7, (full, -1, -1), replica_id=replica)
    ask("isolation level 7", 7, (full, -1, -1), isolation_level=7)
    cluster.keep("ListOffsets v0", cluster.client.ask(LIST_OFFSETS, 0, b""))
    cluster.keep("ListOffsets v12", cluster.client.ask(LIST_OFFSETS, 12, b""))
