"""Where requests for a partition go: its row, its worker, its log, or to another broker; and those that wait
for a leader.
"""

from collections import deque
from collections.abc import Callable
from resource import RLIMIT_NOFILE, getrlimit

from tailrace.core.errors import (
    KAFKA_STORAGE_ERROR,
    LEADER_NOT_AVAILABLE,
    NONE,
    NOT_LEADER_OR_FOLLOWER,
    UNKNOWN_TOPIC_OR_PARTITION,
)
from tailrace.core.log.reader import Hint, LogReader
from tailrace.core.metadata.image import TopicImage
from tailrace.shm.slots import SlotTable
from tailrace.shm.state_table import ROW_GENERATION, Row, StateTable
from tailrace.workers.control import Assigned, Unassigned
from tailrace.workers.gateway.cold_reads import ColdReads, WarmDirectory

HELD_MAX = 10_000  # entries of all partitions that wait for a leader or for room in a ring
HOLD_MS = 1000
DESCRIPTORS_A_READER = 16  # of the process's for each partition with open files: a reader takes four of them
READERS_MIN = 8


class Partition:
    """One partition as the gateway knows it."""

    __slots__ = (
        "assigned",
        "elsewhere",
        "error",
        "held",
        "hint",
        "is_leaderless",
        "name",
        "partition",
        "reader",
        "topic_id",
    )

    def __init__(self, name: str, topic_id: bytes, partition: int) -> None:
        self.name = name
        self.topic_id = topic_id
        self.partition = partition
        self.assigned: Assigned | None = None  # to a worker of this gateway's broker
        self.elsewhere: Assigned | None = None  # to one of another broker
        self.is_leaderless = False  # its broker is gone
        self.error = NOT_LEADER_OR_FOLLOWER  # while it is not assigned
        self.held: deque[Callable[[], bool]] = deque()  # each sends its entry, or says False: not yet
        self.reader: LogReader | None = None
        self.hint: Hint | None = None

    @property
    def refusal(self) -> int:
        """Why nobody waits here for a leader; NONE: one may come at any moment."""
        if self.elsewhere is not None or self.is_leaderless or self.error != NOT_LEADER_OR_FOLLOWER:
            return self.error
        return NONE


def path_of(partition: Partition) -> str:
    """The directory of the log of one that was assigned."""
    assert partition.assigned is not None, "whoever has read its row knows where it lies"
    return f"{partition.assigned.log_dir}/{partition.name}-{partition.partition}"


class Partitions:
    """All partitions that the controller has spoken of."""

    def __init__(self, slots: SlotTable, table: StateTable, cold_reads: ColdReads, node_id: int) -> None:
        """`node_id`: of this gateway's broker."""
        self._node_id = node_id
        self._slots = slots
        self._table = table
        self._cold_reads = cold_reads
        self._by_id: dict[tuple[bytes, int], Partition] = {}
        self._by_row: dict[int, Partition] = {}
        self._readers: dict[Partition, None] = {}  # that hold files open, the longest first
        self._readers_max = max(READERS_MIN, getrlimit(RLIMIT_NOFILE)[0] // DESCRIPTORS_A_READER)
        self.waiting: set[Partition] = set()  # those with something held
        self.held_count = 0

    def get(self, name: str, topic_id: bytes, partition: int) -> Partition:
        """The partition, which exists in the metadata; known to the controller or not yet."""
        key = (topic_id, partition)
        found = self._by_id.get(key)
        if found is None:
            found = self._by_id[key] = Partition(name, topic_id, partition)
        return found

    def by_row(self, row: int) -> Partition | None:
        """Whose row it is."""
        return self._by_row.get(row)

    def on_assigned(self, message: Assigned) -> Partition:
        """A leader serves it, here or on another broker."""
        partition = self.get(message.topic, message.topic_id, message.partition)
        old = partition.assigned
        known = old or partition.elsewhere
        if known is not None and known.leader_epoch > message.leader_epoch:
            return partition
        if message.broker != self._node_id:
            self._on_leader_elsewhere(partition, message)
            return partition
        partition.elsewhere, partition.is_leaderless = None, False
        if old is not None and old.row != message.row:
            self._by_row.pop(old.row, None)
        if old is not None and old.row_generation != message.row_generation:
            self._forget_files(partition)  # a new leader counts its segment generations anew
        partition.assigned = message
        partition.error = NONE
        self._by_row[message.row] = partition
        return partition

    def _on_leader_elsewhere(self, partition: Partition, message: Assigned) -> None:
        if partition.assigned is not None:
            self._by_row.pop(partition.assigned.row, None)
            self._forget_files(partition)
            partition.assigned = None
        partition.elsewhere, partition.is_leaderless = message, False
        partition.error = NOT_LEADER_OR_FOLLOWER

    def on_unassigned(self, message: Unassigned, topic: TopicImage | None) -> Partition | None:
        """Nobody leads it for now, or it is gone, and its topic perhaps with it."""
        partition = self._by_id.get((message.topic_id, message.partition))
        if partition is None:
            if topic is None:
                return None
            partition = self.get(topic.name, topic.topic_id, message.partition)
        partition.error = message.error_code
        partition.elsewhere, partition.is_leaderless = None, message.error_code == NOT_LEADER_OR_FOLLOWER
        if partition.assigned is not None and message.error_code != NOT_LEADER_OR_FOLLOWER:
            self._by_row.pop(partition.assigned.row, None)
            partition.assigned = None
        if message.error_code == KAFKA_STORAGE_ERROR:
            self._forget_files(partition)  # or a disk that failed could not be unmounted
        if message.error_code == UNKNOWN_TOPIC_OR_PARTITION:
            self._forget_files(partition)
            self._by_id.pop((message.topic_id, message.partition), None)
        return partition

    def let_go_of_files(self, topic_id: bytes, partition: int) -> None:
        """Some of them were deleted, and stay on the disk while they are open."""
        found = self._by_id.get((topic_id, partition))
        if found is not None:
            self._forget_files(found)

    def _forget_files(self, partition: Partition) -> None:
        if partition.reader is not None:
            partition.reader.close()
            partition.reader = None
            del self._readers[partition]
        partition.hint = None

    def is_led(self, partition: Partition) -> bool:
        """Whether entries can be sent to its worker now."""
        assigned = partition.assigned
        return (
            assigned is not None
            and partition.error == NONE
            and self._slots.is_live(assigned.worker_slot, assigned.worker_incarnation)
        )

    def error_of(self, topic_id: bytes, partition: int) -> int:
        """What Metadata says of it: NONE when a leader serves it."""
        found = self._by_id.get((topic_id, partition))
        if found is not None and found.elsewhere is not None:
            away = found.elsewhere
            is_live = self._slots.is_live(away.worker_slot, away.worker_incarnation)
            return NONE if is_live else LEADER_NOT_AVAILABLE
        if found is None or found.error == NOT_LEADER_OR_FOLLOWER:
            return LEADER_NOT_AVAILABLE
        if found.error == NONE and not self.is_led(found):
            return LEADER_NOT_AVAILABLE
        return found.error

    def is_awaited(self, topic_id: bytes, partition: int) -> bool:
        """Whether it has no leader, and one may come soon: not with a broker that is gone."""
        found = self._by_id.get((topic_id, partition))
        is_away = found is not None and (found.elsewhere is not None or found.is_leaderless)
        return not is_away and self.error_of(topic_id, partition) == LEADER_NOT_AVAILABLE

    def read_row(self, partition: Partition) -> Row | None:
        """Its row, None when it was given to another."""
        assigned = partition.assigned
        if assigned is None:
            return None
        row = self._table.read(assigned.row)
        return row if row[ROW_GENERATION] == assigned.row_generation else None

    def reader_of(self, partition: Partition) -> LogReader:
        """Reads its log by descriptors."""
        if partition.reader is None:
            while len(self._readers) >= self._readers_max:
                self._forget_files(next(iter(self._readers)))
            self._readers[partition] = None
            partition.reader = LogReader(WarmDirectory(path_of(partition), self._cold_reads))
        return partition.reader

    def hold(self, partition: Partition, send: Callable[[], bool]) -> bool:
        """Keep an entry until its worker can take it, in order. False when too many are kept already."""
        if self.held_count >= HELD_MAX:
            return False
        partition.held.append(send)
        self.held_count += 1
        self.waiting.add(partition)
        return True

    def send_held(self) -> None:
        """Send what can be sent now."""
        for partition in list(self.waiting):
            while partition.held and partition.held[0]():
                partition.held.popleft()
                self.held_count -= 1
            if not partition.held:
                self.waiting.discard(partition)
