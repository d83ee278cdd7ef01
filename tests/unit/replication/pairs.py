"""A leader and a follower of one partition, each in a process, for the tests beside this file."""

from collections import deque

from tailrace.core.replication.follower import FollowerPartition
from tailrace.core.replication.followers import Followers
from tailrace.core.replication.isr import InSync, PartitionState
from tailrace.core.replication.leaders import Leaders
from tailrace.core.replication.partition import LeaderPartition
from tests.sim.replication_log import MemoryLog, new_batch
from tests.sim.replication_memory import Words

TP = (b"t" * 16, 0)
LEADER, FOLLOWER = (0, 1), (1, 1)
NUMBERS = iter(range(1, 1 << 30))


def log_of(*epochs: int) -> MemoryLog:
    """One batch of one record in each of these epochs."""
    log = MemoryLog()
    for epoch in epochs:
        log.produce(new_batch(next(NUMBERS), 1), epoch)
    return log


def copy_of(log: MemoryLog, count: int) -> MemoryLog:
    """The first batches of it."""
    copy = MemoryLog()
    for stored in log.batches[:count]:
        copy.append_as_follower(stored.data, 0)
    return copy


class Pair:
    """Replica 0 leads in `epoch`, replica 1 follows. Frames wait until `exchange`."""

    def __init__(self, leading: MemoryLog, following: MemoryLog, epoch: int, *, room: int = 1 << 20) -> None:
        self.log, self.copy, self.room, self.now = leading, following, room, 0
        self.words = Words()
        self.leaders, self.followers = Leaders(self.words), Followers()
        self.down: deque[bytes] = deque()
        self.up: deque[bytes] = deque()
        self.refused: list[FollowerPartition] = []  # whose disks did
        self.leaders.connect(FOLLOWER, self.push_down, min(1 << 15, room // 2))
        self.followers.connect(LEADER, self.push_up)
        self.follower = FollowerPartition(TP, 1, following)
        self.followers.add(self.follower)
        self.lead(epoch)
        self.followers.follow(TP, epoch, LEADER, self.now)

    def lead(self, epoch: int, *, has_gaps: bool = False) -> None:
        """From now on."""
        state = PartitionState(replicas=(0, 1), isr=(0, 1), partition_epoch=epoch)
        in_sync = InSync(
            replica_id=0, leader_epoch=epoch, state=state, lag_ms_max=1000, min_insync_replicas=1,
            log_end_offset=self.log.log_end_offset, high_watermark=0, now_ms=self.now,
        )  # fmt: skip
        self.partition = LeaderPartition(TP, self.log, in_sync, has_gaps=has_gaps)
        self.leaders.lead(self.partition)

    def push_down(self, frame: bytes) -> bool:
        """Into the ring to the follower."""
        if sum(map(len, self.down)) + len(frame) > self.room:
            return False
        self.down.append(frame)
        return True

    def push_up(self, frame: bytes) -> bool:
        """Into the ring to the leader."""
        self.up.append(frame)
        return True

    def append(self, count: int = 1) -> None:
        """A run of the leader's."""
        for _ in range(count):
            self.log.produce(new_batch(next(NUMBERS), 1), self.partition.leader_epoch)
        self.partition.replicate()
        self.partition.on_shown()

    def take_up(self) -> None:
        """The leader's turn."""
        while self.up:
            self.leaders.on_frame(FOLLOWER, self.up.popleft())
        self.leaders.downstreams[FOLLOWER].send_waiting()
        self.leaders.on_acks(self.words.moved(), self.now)
        self.partition.on_shown()

    def take_down(self) -> None:
        """The follower's turn."""
        while self.down:
            refused = self.followers.on_frame(LEADER, self.down.popleft(), self.now)
            self.refused += [partition for partition, _ in refused]
        for partition, _ in self.followers.copying():
            self.followers.copy(partition, self.log.read, 1 << 20, self.now)
        for _, number, offset in self.followers.acks(self.followers.take_touched()):
            self.words.words[number] = offset

    def exchange(self) -> None:
        """Until all is said, and all that is due by then."""
        for _ in range(30):
            self.now += 200
            self.followers.tick(self.now)
            self.take_up()
            self.take_down()
            self.leaders.downstreams[FOLLOWER].say_marks()

    def is_equal(self) -> bool:
        """Whether both hold the same, and know that it is committed."""
        end = self.log.log_end_offset
        marks = (self.log.high_watermark, self.copy.high_watermark)
        return self.log.held() == self.copy.held() and marks == (end, end)
