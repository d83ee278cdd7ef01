"""Fetches that wait for records: one wanted offset a row in shared memory, all that wait for it here."""

from typing import TYPE_CHECKING

from tailrace.shm.state_table import HIGH_WATERMARK
from tailrace.shm.words import fence
from tailrace.workers.gateway.handlers.fetch import Fetch
from tailrace.workers.gateway.partitions import Partition

if TYPE_CHECKING:
    from tailrace.workers.gateway.connection import Connection
    from tailrace.workers.gateway.gateway import Gateway
PARTITIONS_MAX = 1_000_000  # that all waiting fetches name together; later ones do not wait


class _Wait:
    """One waiting fetch, the rows it waits on, its deadline."""

    __slots__ = ("fetch", "rows", "timer")

    def __init__(self, fetch: Fetch) -> None:
        self.fetch = fetch
        self.rows: dict[int, int] = {}  # row -> high watermark when it was last looked at
        self.timer = 0


class LongPolls:
    """Fetches by row. A row's word names the lowest high watermark at which one of them was last seen."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._by_row: dict[int, set[_Wait]] = {}
        self._all: set[_Wait] = set()
        self._of_connection: dict[Connection, _Wait] = {}  # one at most: a fetch is alone on its connection
        self._partition_count = 0  # that they name

    def has(self, connection: "Connection") -> bool:
        """Whether a fetch of this connection waits."""
        return connection in self._of_connection

    def forget(self, connection: "Connection") -> None:
        """The connection closes: nobody waits any more."""
        wait = self._of_connection.get(connection)
        if wait is not None:
            self._finish(wait)

    def wait(self, fetch: Fetch) -> None:
        """Keep a fetch until there is enough for it or its time is over; answer it now if too much waits."""
        if self._partition_count + len(fetch.context.partitions) > PARTITIONS_MAX:
            fetch.try_answer(late=True)
            return
        wait = _Wait(fetch)
        self._partition_count += len(fetch.context.partitions)
        self._all.add(wait)
        self._of_connection[fetch.request.connection] = wait
        wait.timer = self._gateway.timers.schedule(fetch.deadline_ms, lambda: self._on_deadline(wait))
        self._arm(wait)

    def _arm(self, wait: _Wait) -> None:
        """Name the offsets, fence, and look once more: the leader may have advanced meanwhile (R)."""
        gateway = self._gateway
        while True:
            self._enter(wait)
            fence()  # pairs with the leader's, between its row and its look at the words
            table = gateway.context.state_table
            if all(table.read(row)[HIGH_WATERMARK] <= seen for row, seen in wait.rows.items()):
                return
            if wait.fetch.try_answer(late=False):
                self._finish(wait)
                return

    def _enter(self, wait: _Wait) -> None:
        gateway = self._gateway
        before, wait.rows = wait.rows, {}
        for part in wait.fetch.context.partitions.values():
            topic = gateway.topic(part.topic)
            if topic is None:
                continue
            partition = gateway.partitions.get(topic.name, topic.topic_id, part.partition)
            row = gateway.partitions.read_row(partition)
            if row is None or partition.place is None:
                continue
            number = partition.place.row
            wait.rows[number] = max(row[HIGH_WATERMARK], part.fetch_offset)
            self._by_row.setdefault(number, set()).add(wait)
            self._want(number)
        for number in before.keys() - wait.rows.keys():  # a partition has moved to another row
            self._leave(wait, number)

    def _leave(self, wait: _Wait, row: int) -> None:
        waits = self._by_row.get(row)
        if waits is not None:
            waits.discard(wait)
            self._want(row)

    def _want(self, row: int) -> None:
        waits = self._by_row.get(row)
        waiters, waiter = self._gateway.context.waiters, self._gateway.waiter
        if waits:
            waiters.want(row, waiter, min(wait.rows[row] for wait in waits))
        else:
            self._by_row.pop(row, None)
            waiters.clear(row, waiter)

    def on_row_advanced(self, row: int) -> None:
        """A leader moved a high watermark past what was wanted."""
        for wait in list(self._by_row.get(row, ())):
            self._look_again(wait)

    def on_partition_changed(self, partition: Partition) -> None:
        """A partition lost its leader, is gone, or has another row."""
        index, topics = partition.partition, (partition.name, partition.topic_id)
        for wait in list(self._all):
            parts = wait.fetch.context.partitions
            if any((topic, index) in parts for topic in topics):
                self._look_again(wait)

    def _look_again(self, wait: _Wait) -> None:
        if wait not in self._all:
            return
        if wait.fetch.try_answer(late=False):
            self._finish(wait)
        else:
            self._arm(wait)

    def _on_deadline(self, wait: _Wait) -> None:
        wait.fetch.request.connection.last_active_ms = self._gateway.now_ms()
        wait.fetch.try_answer(late=True)
        self._finish(wait)

    def _finish(self, wait: _Wait) -> None:
        self._gateway.timers.cancel(wait.timer)
        if wait in self._all:
            self._all.discard(wait)
            self._partition_count -= len(wait.fetch.context.partitions)
        self._of_connection.pop(wait.fetch.request.connection, None)
        for row in wait.rows:
            self._leave(wait, row)

    def finish_all(self) -> None:
        """The gateway stops: answer each with what there is."""
        for wait in list(self._all):
            self._on_deadline(wait)
