"""What is committed under flush.policy=group and each: what is on the disk, and no more.

    page    what is appended is committed: nothing of this module runs
    group   an append to a log asks for a sync of it; one thread syncs the logs that ask, one after the other,
            and what is appended meanwhile gathers for the next sync. An acknowledgement of acks=all is held
            until the high watermark covers the batch, also that of a duplicate
    each    every append is synced before it is answered, in the worker's loop

Rules (R), each with a test:
- the high watermark moves after the sync has returned, over what was there when it began;
- nothing is acknowledged after a sync that failed;
- who opens a log syncs it before the high watermark moves over what a predecessor had not synced
  (workers/replica.py).
"""

import time
from collections.abc import Callable, Iterable

from tailrace.core.errors import KAFKA_STORAGE_ERROR, KafkaError
from tailrace.core.log.directory import is_full
from tailrace.core.log.flush import Flush
from tailrace.workers.background import Background
from tailrace.workers.held_acks import HeldAcks
from tailrace.workers.process import ProcessContext
from tailrace.workers.replica import Replica

EACH = "each"


class Commit:
    """All logs of a worker whose policy is not `page`. `changed` is told of replicas whose row is to be
    published, `failed` of those whose disk refused.
    """

    def __init__(
        self,
        context: ProcessContext,
        held: HeldAcks,
        changed: Callable[[Replica], object],
        failed: Callable[[Replica, Exception], object],
    ) -> None:
        self._held = held
        self._changed = changed
        self._failed = failed
        self._syncs_each = context.config.flush_policy == EACH
        self._gather_ns = context.config.flush_group_ms * 1_000_000
        self._background: Background[tuple[Replica, Flush]] = Background(context.doorbell.wake)
        self._syncing: Replica | None = None  # one at a time; None also when it went out of service meanwhile
        self._syncing_to = 0
        self._asking: dict[Replica, int] = {}  # since when, in the order of asking

    @property
    def is_syncing(self) -> bool:
        """Whether a sync is under way."""
        return self._background.under_way > 0

    def appended(self, replica: Replica) -> None:
        """A batch is in its log. OSError: its disk refused."""
        if self._syncs_each:
            replica.sync()
        self._changed(replica)

    def ask(self, replicas: Iterable[Replica]) -> None:
        """Sync those of which something is not on the disk."""
        for replica in replicas:
            if self._syncs_each:
                self._sync_followed(replica)
                continue
            end_offset = replica.log.log_end_offset
            is_begun = replica is self._syncing and end_offset <= self._syncing_to
            if replica not in self._asking and not is_begun and not replica.is_synced(end_offset):
                self._asking[replica] = time.monotonic_ns()

    def _sync_followed(self, replica: Replica) -> None:
        """What a leader appended is synced by now; what came from a leader is not."""
        if replica.following is None or replica.is_synced(replica.log.log_end_offset):
            return
        try:
            self.appended(replica)
        except (OSError, KafkaError) as error:
            if not is_full(error):  # or at a later tick
                self._failed(replica, error)

    def turn(self) -> None:
        """What was synced meanwhile is committed; begin the next sync."""
        if self._background.under_way:
            self._take_done()
        while self._asking and not self._background.under_way and self._due_ns() <= 0:
            replica = next(iter(self._asking))
            del self._asking[replica]
            self._begin(replica)

    def timeout_s(self) -> float:
        """How long the worker may sleep; a sync that ends wakes it."""
        if not self._asking or self._background.under_way:
            return 3600.0
        return max(0.0, self._due_ns() / 1e9)

    def tick(self, replicas: Iterable[Replica]) -> None:
        """Once a second: what could not be synced for want of room is tried again."""
        for replica in replicas:
            if replica.is_synced(replica.log.log_end_offset):
                continue
            if self._syncs_each:
                try:
                    self.appended(replica)
                except (OSError, KafkaError) as error:
                    if is_full(error):
                        continue
                    self._failed(replica, error)
                    return  # others may have gone with it
            else:
                self.ask((replica,))

    def finish(self) -> None:
        """Wait for the sync under way (R): an error that it has reported is not reported again."""
        self._take_done(wait=True)

    def forget(self, replica: Replica) -> None:
        """It goes out of service."""
        self._asking.pop(replica, None)
        if self._syncing is replica:
            self._syncing = None

    def _due_ns(self) -> int:
        """Until the log that has waited longest has gathered enough."""
        return next(iter(self._asking.values())) + self._gather_ns - time.monotonic_ns()

    def _begin(self, replica: Replica) -> None:
        try:
            flush = replica.log.begin_flush()
        except KafkaError as error:
            if is_full(error):  # no room for a small file: nothing is lost, the next tick asks again
                self.forget(replica)
                self._held.fail(replica, KAFKA_STORAGE_ERROR)
            else:
                self._failed(replica, error)
            return
        self._syncing, self._syncing_to = replica, flush.end_offset
        self._background.submit((replica, flush), flush.run)

    def _take_done(self, *, wait: bool = False) -> None:
        for (replica, flush), error in self._background.take_done(wait=wait):
            if self._syncing is not replica:
                continue  # deleted or failed meanwhile
            self._syncing = None
            if error is not None:
                self._failed(replica, error)
                continue
            replica.synced(flush)
            self._changed(replica)
            self.ask((replica,))  # of what came meanwhile
