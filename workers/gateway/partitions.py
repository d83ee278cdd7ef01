"""Where requests for a partition go: its row, its worker, its log, or to another broker; and those that wait
for a leader.

Who leads is known from two sides: the image tells what is committed, `Assigned` which process has begun to
lead. Whichever names the later leader epoch is believed.
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
from tailrace.core.metadata.image import MetadataImage, TopicImage
from tailrace.core.metadata.records import NO_LEADER
from tailrace.shm.slots import SlotTable
from tailrace.shm.state_table import ROW_GENERATION, Row, StateTable
from tailrace.workers.control import Assigned, ReplicaPlace, Unassigned
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
        "place",
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
        self.place: ReplicaPlace | None = None  # of the replica that this gateway's broker has
        self.error = NOT_LEADER_OR_FOLLOWER  # while it is not assigned
        self.held: deque[Callable[[], bool]] = deque()  # each sends its entry, or says False: not yet
        self.reader: LogReader | None = None
        self.hint: Hint | None = None

    @property
    def known(self) -> Assigned | None:
        """The process that leads it, or was the last that did."""
        return self.assigned or self.elsewhere


def path_of(partition: Partition) -> str:
    """The directory of the log of one that this broker has a replica of."""
    assert partition.place is not None, "whoever has read its row knows where it lies"
    return f"{partition.place.log_dir}/{partition.name}-{partition.partition}"


def _place_in(message: Assigned, node_id: int) -> ReplicaPlace | None:
    """That of the replica which this broker has."""
    if message.broker == node_id:
        return ReplicaPlace(
            broker=node_id,
            row=message.row,
            row_generation=message.row_generation,
            worker_slot=message.worker_slot,
            log_dir=message.log_dir,
        )
    return next((place for place in message.replicas if place.broker == node_id), None)


class Partitions:
    """All partitions that the controller has spoken of."""

    def __init__(
        self,
        slots: SlotTable,
        table: StateTable,
        cold_reads: ColdReads,
        node_id: int,
        image: MetadataImage,
        is_there: Callable[[int], bool],
    ) -> None:
        """`node_id`: of this gateway's broker; `is_there`: whether clients reach a broker."""
        self._is_there = is_there
        self._node_id = node_id
        self._image = image
        self._slots = slots
        self._table = table
        self._cold_reads = cold_reads
        self._by_id: dict[tuple[bytes, int], Partition] = {}
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

    def on_assigned(self, message: Assigned) -> Partition:
        """A leader serves it, here or on another broker."""
        partition = self.get(message.topic, message.topic_id, message.partition)
        known = partition.known
        if known is not None and known.leader_epoch > message.leader_epoch:
            return partition
        is_own = message.broker == self._node_id
        partition.assigned, partition.elsewhere = (message, None) if is_own else (None, message)
        partition.is_leaderless = False
        partition.error = NONE if is_own else NOT_LEADER_OR_FOLLOWER
        self._move(partition, _place_in(message, self._node_id))
        return partition

    def _move(self, partition: Partition, place: ReplicaPlace | None) -> None:
        """The replica of this broker is there now; None: there is none, or it is not to be read."""
        old = partition.place
        if old is not None and (place is None or old.row_generation != place.row_generation):
            self._forget_files(partition)  # who has it now counts its segment generations anew
        partition.place = place

    def on_unassigned(self, message: Unassigned, topic: TopicImage | None) -> Partition | None:
        """Nobody leads it for now, or it is gone, and its topic perhaps with it."""
        partition = self._by_id.get((message.topic_id, message.partition))
        if partition is None:
            if topic is None:
                return None
            partition = self.get(topic.name, topic.topic_id, message.partition)
        partition.error = message.error_code
        partition.elsewhere, partition.is_leaderless = None, message.error_code == NOT_LEADER_OR_FOLLOWER
        if message.error_code != NOT_LEADER_OR_FOLLOWER:
            partition.assigned = partition.place = None
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

    def leadership(self, partition: Partition) -> tuple[int, int]:
        """The broker that leads it, NO_LEADER if none does, and the leader epoch: what is newest of what is
        known.
        """
        known = partition.known
        committed = self._image.partition(partition.topic_id, partition.partition)
        if committed is not None and (known is None or committed.leader_epoch > known.leader_epoch):
            return committed.leader, committed.leader_epoch
        return (NO_LEADER, -1) if known is None else (known.broker, known.leader_epoch)

    def is_superseded(self, partition: Partition) -> bool:
        """Whether a later leader is committed than the one which is known to have begun."""
        known = partition.known
        return known is not None and self.leadership(partition)[1] > known.leader_epoch

    def refusal(self, partition: Partition) -> int:
        """Why nobody waits here for a leader; NONE: one may come at any moment."""
        if partition.error not in (NONE, NOT_LEADER_OR_FOLLOWER):
            return partition.error
        known, (leader, epoch) = partition.known, self.leadership(partition)
        if known is None or epoch > known.leader_epoch:
            return NONE if leader == self._node_id else NOT_LEADER_OR_FOLLOWER
        if partition.is_leaderless:
            return partition.error
        if partition.elsewhere is None:
            return NONE
        is_led = self._slots.is_live(known.worker_slot, known.worker_incarnation)
        if is_led and self._is_there(known.broker):
            return partition.error
        return NONE  # it died, and the next one is known in a moment

    def error_of(self, topic_id: bytes, partition: int) -> int:
        """What Metadata says of it: NONE when a leader serves it, or one is committed and about to."""
        found = self._by_id.get((topic_id, partition))
        if found is None or found.error not in (NONE, NOT_LEADER_OR_FOLLOWER):
            return LEADER_NOT_AVAILABLE if found is None else found.error
        if self.is_superseded(found):
            return LEADER_NOT_AVAILABLE if self.leadership(found)[0] == NO_LEADER else NONE
        known = found.known
        if known is None or found.is_leaderless:
            return LEADER_NOT_AVAILABLE
        is_live = self._slots.is_live(known.worker_slot, known.worker_incarnation)
        return NONE if is_live else LEADER_NOT_AVAILABLE

    def is_awaited(self, topic_id: bytes, partition: int) -> bool:
        """Whether it has no leader, and one may come soon: not with a broker that is gone."""
        found = self._by_id.get((topic_id, partition))
        is_away = found is not None and (found.elsewhere is not None or found.is_leaderless)
        return not is_away and self.error_of(topic_id, partition) == LEADER_NOT_AVAILABLE

    def read_row(self, partition: Partition) -> Row | None:
        """The row of the replica that this broker has, None when it was given to another."""
        place = partition.place
        return None if place is None else self.read_place(place)

    def read_place(self, place: ReplicaPlace) -> Row | None:
        """The row of any replica, None when it was given to another."""
        row = self._table.read(place.row)
        return row if row[ROW_GENERATION] == place.row_generation else None

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
