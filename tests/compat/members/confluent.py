"""confluent-kafka: librdkafka from Python."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from tests.compat.members.member import CommitFailedError, Member, Message, Place, Wish

ck: Any = import_module("confluent_kafka")
POLL_MAX = 1000
COORDINATOR_MOVES = (
    14,
    15,
    16,
)  # loads, is not there yet, is another: librdkafka goes on by itself
HEARTBEAT_MS = 200  # a member of a classic group learns of a rebalance with its heartbeat


class ConfluentMember:
    """A subscribed consumer; its heart beats in librdkafka's own thread."""

    def __init__(self, wish: Wish) -> None:
        self._read: list[Message] = []
        self._revoked: list[Place] = []
        self._commits: list[str | None] = []
        settings: dict[str, Any] = {
            "bootstrap.servers": wish.bootstrap,
            "group.id": wish.group,
            "enable.auto.commit": wish.auto_commit,
            "auto.offset.reset": {"none": "error"}.get(wish.reset, wish.reset),
            "on_commit": self._on_commit,
            "log_level": 0,
        }
        if wish.strategy == "consumer":
            settings["group.protocol"] = "consumer"
        else:
            settings["partition.assignment.strategy"] = wish.strategy
            settings["heartbeat.interval.ms"] = HEARTBEAT_MS
        if wish.instance:
            settings["group.instance.id"] = wish.instance
        self._consumer = ck.Consumer(settings)
        self._consumer.subscribe(list(wish.topics), on_revoke=self._on_revoke)

    def poll(self, seconds: float) -> list[Message]:
        """One by one: a rebalance between two messages takes back those that came before it."""
        self._read = []
        message = self._consumer.poll(seconds)
        while message is not None:
            error = message.error()
            if error is None:
                place = Place(message.topic(), message.partition())
                self._read.append(Message(place, message.offset(), message.value().decode()))
            elif error.code() not in COORDINATOR_MOVES:
                raise ck.KafkaException(error)
            message = self._consumer.poll(0) if len(self._read) < POLL_MAX else None
        return self._read

    def assignment(self) -> set[Place]:
        return {Place(one.topic, one.partition) for one in self._consumer.assignment()}

    def revoked(self) -> list[Place]:
        return self._revoked

    def commit(self) -> None:
        """What it did not commit counts as not read: a partition may be on its way to another member."""
        done: dict[Place, int] = {}
        try:
            for one in self._consumer.commit(asynchronous=False):
                if one.error is not None:
                    raise CommitFailedError(str(one.error))
                done[Place(one.topic, one.partition)] = one.offset
        except ck.KafkaException as error:
            raise CommitFailedError(str(error)) from error
        self._read[:] = [message for message in self._read if message.offset < done.get(message.place, 0)]

    def commit_later(self) -> None:
        self._consumer.commit(asynchronous=True)

    def commits_done(self) -> list[str | None]:
        return self._commits

    def commit_at(self, place: Place, offset: int, metadata: str) -> None:
        what = ck.TopicPartition(*place, offset, metadata)
        (done,) = self._consumer.commit(offsets=[what], asynchronous=False)
        assert done.error is None, done.error

    def committed(self, place: Place) -> int | None:
        (found,) = self._consumer.committed([ck.TopicPartition(*place)], timeout=30)
        return found.offset if found.offset >= 0 else None

    def seek(self, place: Place, offset: int) -> None:
        self._consumer.seek(ck.TopicPartition(*place, offset))

    def pause(self, places: Iterable[Place]) -> None:
        self._consumer.pause([ck.TopicPartition(*place) for place in places])

    def resume(self, places: Iterable[Place]) -> None:
        self._consumer.resume([ck.TopicPartition(*place) for place in places])

    def close(self) -> None:
        self._consumer.close()

    def _on_commit(self, error: Any, _: Any) -> None:
        self._commits.append(None if error is None else str(error))

    def _on_revoke(self, _: Any, partitions: list[Any]) -> None:
        taken = [Place(one.topic, one.partition) for one in partitions]
        self._revoked += taken
        self._read = [message for message in self._read if message.place not in taken]


class Confluent:
    """The library most Python programs use."""

    name = "confluent-kafka"
    strategies: tuple[str, ...] = ("range", "roundrobin", "cooperative-sticky", "consumer")

    def missing(self) -> str | None:
        """It comes with the dev extra."""
        return None

    def join(self, wish: Wish) -> Member:
        """Subscribe."""
        return ConfluentMember(wish)
