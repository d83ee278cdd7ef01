"""Members of a consumer group whose reading and committing is judged, while their coordinators die.

Of a group holds, beyond what holds of every reader: it begins where it committed last, and never behind what
it has read; and every commit that was acknowledged is there in the end.
"""

from collections.abc import Sequence
from importlib import import_module
from threading import Lock
from typing import Any

from tests.support.history_check import History
from tests.support.history_clients import Client, record_of
from tests.support.waiting import wait_until

confluent_kafka: Any = import_module("confluent_kafka")
NUMBERS = iter(range(1_000, 1 << 30))  # of readers: another with each assignment


class Progress:
    """What the members of one group have done together, by partition."""

    def __init__(self, name: str, partitions: int) -> None:
        self.name = name
        self.read = [0] * partitions  # all below was read by some member
        self.committed = [0] * partitions  # and that much was acknowledged
        self.lock = Lock()


class GroupMember(Client):
    """librdkafka's consumer, which commits what it has read, and waits for the answer."""

    def __init__(
        self, history: History, bootstrap: str, topic: str, progress: Progress, protocol: str
    ) -> None:
        """`protocol`: classic or consumer (KIP-848)."""
        super().__init__(history, f"member of {progress.name}")
        self._topic, self._progress = topic, progress
        self._numbers: dict[int, int] = {}  # by partition that is assigned: under which number it is read
        self._least: dict[int, int] = {}  # where reading has to begin at least
        self._next: dict[int, int] = {}
        settings: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "group.id": progress.name,
            "group.protocol": protocol,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "reconnect.backoff.max.ms": 200,
            "topic.metadata.refresh.interval.ms": 1000,
            "log_level": 0,
        }
        if protocol == "classic":
            settings |= {"session.timeout.ms": 6000, "heartbeat.interval.ms": 200}
        self._consumer: Any = confluent_kafka.Consumer(settings)

    def live(self) -> None:
        self._consumer.subscribe([self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke)
        try:
            while not self.stopping.is_set():
                found = [each for each in self._consumer.consume(1000, 0.1) if each.error() is None]
                for message in found:
                    self._take(message)
                if found:
                    self._commit()
        finally:
            self._consumer.close()

    def _on_assign(self, _consumer: Any, places: Sequence[Any]) -> None:
        with self._progress.lock:
            for place in places:
                self._numbers[place.partition] = next(NUMBERS)
                self._least[place.partition] = self._progress.committed[place.partition]
                self._next.pop(place.partition, None)

    def _on_revoke(self, _consumer: Any, places: Sequence[Any]) -> None:
        for place in places:
            self._numbers.pop(place.partition, None)
            self._next.pop(place.partition, None)

    def _take(self, message: Any) -> None:
        partition: int = message.partition()
        offset: int = message.offset()
        progress = self._progress
        number = self._numbers.get(partition)
        if number is None:
            self.history.complain("not assigned", f"{self.name}: {partition} at {offset}")
            return
        with progress.lock:
            least = self._least.pop(partition, offset)
            if not least <= offset <= progress.read[partition]:
                where = f"{least} to {progress.read[partition]}"
                self.history.complain("commit lost", f"{self.name}: {partition} at {offset}, due: {where}")
            progress.read[partition] = max(progress.read[partition], offset + 1)
        self.history.read(number, partition, offset, record_of(message.value()))
        self._next[partition] = offset + 1

    def _commit(self) -> None:
        """What is not acknowledged may be lost: by a rebalance, or with a coordinator."""
        topic, progress = self._topic, self._progress
        places = [confluent_kafka.TopicPartition(topic, *each) for each in self._next.items()]
        if not places:
            return
        try:
            done = self._consumer.commit(offsets=places, asynchronous=False)
        except confluent_kafka.KafkaException:
            return
        with progress.lock:
            for place in done:
                if place.error is None:
                    at: int = place.partition
                    offset: int = place.offset
                    progress.committed[at] = max(progress.committed[at], offset)


def check_group(
    bootstrap: str, topic: str, progress: Progress, ends: Sequence[int], patience_s: float
) -> None:
    """The group has read all; and what it has committed is there. Nobody writes, some member lives."""
    wait_until(
        lambda: all(read >= end for read, end in zip(progress.read, ends, strict=True)),
        f"{progress.name} to read on from {progress.read} to {list(ends)}",
        patience_s,
    )
    consumer: Any = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": progress.name})
    try:
        places = [confluent_kafka.TopicPartition(topic, number) for number in range(len(ends))]
        found = [place.offset for place in consumer.committed(places, timeout=patience_s)]
    finally:
        consumer.close()
    assert all(map(int.__ge__, found, progress.committed)), f"{found}, acknowledged: {progress.committed}"
