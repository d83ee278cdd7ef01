"""aiokafka: asyncio, here on a loop in a thread of its own."""

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from concurrent.futures import Future
from importlib import import_module
from typing import Any

from tests.compat.members.member import (
    PATIENCE_S,
    CommitFailedError,
    Member,
    Message,
    Place,
    RevokedError,
    Wish,
)

aiokafka: Any = import_module("aiokafka")
errors: Any = import_module("aiokafka.errors")
STRATEGIES: dict[str, Any] = {
    "range": import_module("aiokafka.coordinator.assignors.range").RangePartitionAssignor,
    "roundrobin": import_module("aiokafka.coordinator.assignors.roundrobin").RoundRobinPartitionAssignor,
}
Listener: Any = aiokafka.ConsumerRebalanceListener


class Taken(Listener):  # type: ignore[misc]
    """Notes what is revoked, and how often; a rebalance, which comes at any time, waits for a commit."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.times = 0
        self.committing = asyncio.Lock()

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Called by the consumer."""
        async with self.committing:
            self.places += [Place(*one) for one in revoked]
            self.times += 1

    def on_partitions_assigned(self, assigned: Any) -> None:
        """Called by the consumer."""


class AioMember:
    """A subscribed consumer; its heart beats on the loop."""

    def __init__(self, wish: Wish) -> None:
        self._taken, self._later = Taken(), list[Future[Any]]()
        self._polled = 0  # how often something had been revoked when it last polled
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="aiokafka")
        self._thread.start()
        try:
            self._consumer: Any = self._wait(self._start(wish))
        except BaseException:
            self._stop_loop()
            raise

    async def _start(self, wish: Wish) -> Any:
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=wish.bootstrap,
            group_id=wish.group,
            group_instance_id=wish.instance,
            partition_assignment_strategy=[STRATEGIES[wish.strategy]],
            auto_offset_reset=wish.reset,
            enable_auto_commit=wish.auto_commit,
            heartbeat_interval_ms=200,
        )
        consumer.subscribe(list(wish.topics), listener=self._taken)
        await consumer.start()
        return consumer

    def _wait(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(PATIENCE_S)

    async def _poll(self, seconds: float) -> Any:
        async with self._taken.committing:
            self._polled = self._taken.times
        return await self._consumer.getmany(timeout_ms=int(seconds * 1000), max_records=500)

    async def _commit(self) -> None:
        async with self._taken.committing:
            if self._taken.times != self._polled:
                raise RevokedError
            await self._consumer.commit()

    def poll(self, seconds: float) -> list[Message]:
        batches = self._wait(self._poll(seconds))
        return [
            Message(Place(*where), one.offset, one.value.decode())
            for where, batch in batches.items()
            for one in batch
        ]

    def assignment(self) -> set[Place]:
        return {Place(*one) for one in self._consumer.assignment()}

    def revoked(self) -> list[Place]:
        return self._taken.places

    def commit(self) -> None:
        try:
            self._wait(self._commit())
        except errors.KafkaError as error:
            raise CommitFailedError(repr(error)) from error

    def commit_later(self) -> None:
        self._later.append(asyncio.run_coroutine_threadsafe(self._consumer.commit(), self._loop))

    def commits_done(self) -> list[str | None]:
        ended = [one.exception(0) for one in self._later if one.done()]
        return [None if failure is None else repr(failure) for failure in ended]

    def commit_at(self, place: Place, offset: int, metadata: str) -> None:
        self._wait(self._consumer.commit({aiokafka.TopicPartition(*place): (offset, metadata)}))

    def committed(self, place: Place) -> int | None:
        found: int | None = self._wait(self._consumer.committed(aiokafka.TopicPartition(*place)))
        return found

    def seek(self, place: Place, offset: int) -> None:
        self._loop.call_soon_threadsafe(self._consumer.seek, aiokafka.TopicPartition(*place), offset)

    def pause(self, places: Iterable[Place]) -> None:
        self._call(self._consumer.pause, places)

    def resume(self, places: Iterable[Place]) -> None:
        self._call(self._consumer.resume, places)

    def _call(self, what: Any, places: Iterable[Place]) -> None:
        self._loop.call_soon_threadsafe(what, *(aiokafka.TopicPartition(*place) for place in places))

    def close(self) -> None:
        try:
            self._wait(self._consumer.stop())
        finally:
            self._stop_loop()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Aiokafka:
    """The asyncio client."""

    name = "aiokafka"
    strategies: tuple[str, ...] = ("range", "roundrobin")

    def missing(self) -> str | None:
        """It comes with the dev extra."""
        return None

    def join(self, wish: Wish) -> Member:
        """Subscribe."""
        return AioMember(wish)
