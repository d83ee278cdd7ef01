"""kafka-python: pure Python."""

import gc
import warnings
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from tests.compat.members.member import CommitFailedError, Member, Message, Place, Wish

kafka: Any = import_module("kafka")
errors: Any = import_module("kafka.errors")
consumer_module: Any = import_module("kafka.consumer.subscription_state")
STRATEGIES: dict[str, Any] = {
    "range": import_module("kafka.coordinator.assignors.range").RangePartitionAssignor,
    "roundrobin": import_module("kafka.coordinator.assignors.roundrobin").RoundRobinPartitionAssignor,
    "cooperative-sticky": import_module(
        "kafka.coordinator.assignors.cooperative_sticky"
    ).CooperativeStickyAssignor,
}
SHORTEST_POLL_S = 0.5  # it joins inside poll(); an assignment that comes between two of them can get lost
Listener: Any = kafka.ConsumerRebalanceListener


class Taken(Listener):  # type: ignore[misc]
    """Notes what is revoked."""

    def __init__(self) -> None:
        self.places: list[Place] = []

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Called by the consumer."""
        self.places += [Place(*one) for one in revoked]

    def on_partitions_assigned(self, assigned: Any) -> None:
        """Called by the consumer."""


def close(consumer: Any) -> None:
    """Close it, and forget now what it leaves: a socket that it was just dialling is not closed."""
    consumer.close()
    del consumer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


class KafkaPythonMember:
    """A subscribed consumer; joins inside poll()."""

    def __init__(self, wish: Wish) -> None:
        self._taken, self._commits = Taken(), list[str | None]()
        self._consumer: Any = kafka.KafkaConsumer(
            bootstrap_servers=wish.bootstrap,
            group_id=wish.group,
            group_instance_id=wish.instance,
            partition_assignment_strategy=[STRATEGIES[wish.strategy]],
            auto_offset_reset=wish.reset,
            enable_auto_commit=wish.auto_commit,
            heartbeat_interval_ms=200,
        )
        for topic in wish.topics:  # or it joins before it knows a partition, and at once again
            self._consumer.partitions_for_topic(topic)
        self._consumer.subscribe(list(wish.topics), listener=self._taken)

    def poll(self, seconds: float) -> list[Message]:
        wait_ms = int(max(seconds, SHORTEST_POLL_S) * 1000)
        batches = self._consumer.poll(timeout_ms=wait_ms).items()
        return [
            Message(Place(*where), one.offset, one.value.decode())
            for where, batch in batches
            for one in batch
        ]

    def assignment(self) -> set[Place]:
        return {Place(*one) for one in self._consumer.assignment()}

    def revoked(self) -> list[Place]:
        return self._taken.places

    def commit(self) -> None:
        try:
            self._consumer.commit()
        except errors.KafkaError as error:
            raise CommitFailedError(repr(error)) from error

    def commit_later(self) -> None:
        self._consumer.commit_async(callback=self._on_commit)

    def commits_done(self) -> list[str | None]:
        return self._commits

    def commit_at(self, place: Place, offset: int, metadata: str) -> None:
        what = {kafka.TopicPartition(*place): kafka.OffsetAndMetadata(offset, metadata, -1)}
        self._consumer.commit(what)

    def committed(self, place: Place) -> int | None:
        found: int | None = self._consumer.committed(kafka.TopicPartition(*place))
        return found

    def seek(self, place: Place, offset: int) -> None:
        self._consumer.seek(kafka.TopicPartition(*place), offset)

    def pause(self, places: Iterable[Place]) -> None:
        self._consumer.pause(*(kafka.TopicPartition(*place) for place in places))

    def resume(self, places: Iterable[Place]) -> None:
        self._consumer.resume(*(kafka.TopicPartition(*place) for place in places))

    def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        close(consumer)

    def _on_commit(self, _: Any, answer: Any) -> None:
        self._commits.append(repr(answer) if isinstance(answer, Exception) else None)


class KafkaPython:
    """The oldest Python client."""

    name = "kafka-python"
    strategies: tuple[str, ...] = ("range", "roundrobin", "cooperative-sticky")

    def missing(self) -> str | None:
        """It comes with the dev extra."""
        return None

    def join(self, wish: Wish) -> Member:
        """Subscribe."""
        return KafkaPythonMember(wish)
