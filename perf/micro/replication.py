"""`python -m perf.micro.replication`: what replication adds to an append, one process playing all parts."""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

from tailrace.core.log.directory import RealDirectory
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tailrace.core.records.record import NewRecord, build_batch
from tailrace.core.replication.follower import FollowerPartition
from tailrace.core.replication.followers import Followers
from tailrace.core.replication.isr import InSync, PartitionState
from tailrace.core.replication.leaders import Leaders
from tailrace.core.replication.partition import LeaderPartition
from tailrace.shm.link_slots import AckWords, LinkSlots
from tailrace.shm.ring import BYTES, ByteConsumer, ByteProducer, create_ring
from tailrace.shm.words import map_words

NOW = 1_700_000_000_000
REPLICAS = (0, 1, 2)
BATCHES = 20_000
RING_CELLS = 1 << 17


class Pipe:
    """One ring, both ends of it in this process."""

    def __init__(self, run_dir: str, name: str) -> None:
        region = create_ring(os.path.join(run_dir, name), BYTES, RING_CELLS, 1)
        heads, seen = map_words(bytearray(8)), map_words(bytearray(8))
        self.producer = ByteProducer(region, heads, 0)
        self.consumer = ByteConsumer(region)
        self.consumer.connect(heads, 0, seen, 0)


class Pair:
    """A leader's process, two followers', and `partitions` that they share."""

    def __init__(self, run_dir: str, partitions: int) -> None:
        self.slots = LinkSlots.create(run_dir, 4, 1)
        self.words = AckWords(run_dir, 4, 1)
        self.leaders = Leaders(self.slots)
        self.followers = {r: Followers() for r in REPLICAS[1:]}
        self.down = {r: Pipe(run_dir, f"down-{r}") for r in REPLICAS[1:]}
        self.up = {r: Pipe(run_dir, f"up-{r}") for r in REPLICAS[1:]}
        state = PartitionState(replicas=REPLICAS, isr=REPLICAS, partition_epoch=0)
        for replica, followers in self.followers.items():
            down = self.down[replica].producer
            self.leaders.connect((replica, 1), down.try_push, down.frame_max)
            followers.connect((4, 1), self.up[replica].producer.try_push)
        config = LogConfig(segment_bytes=1 << 26, segment_index_bytes=1 << 16)
        for number in range(partitions):
            tp = (bytes(16), number)
            logs = [
                Log.open(RealDirectory(f"{run_dir}/{number}-{replica}"), "t-0", config, now_ms=NOW)
                for replica in REPLICAS
            ]
            in_sync = InSync(
                replica_id=0, leader_epoch=0, state=state, lag_ms_max=30_000, min_insync_replicas=2,
                log_end_offset=0, high_watermark=0, now_ms=NOW,
            )  # fmt: skip
            self.leaders.lead(LeaderPartition(tp, logs[0], in_sync))
            for replica, followers in self.followers.items():
                followers.add(FollowerPartition(tp, replica, logs[replica]))
                followers.follow(tp, 0, (4, 1), NOW)
                self.take(replica)
        assert self.acknowledge() == 0

    def take(self, replica: int) -> None:
        """What the leader and then the follower find in their rings."""
        while frame := self.up[replica].consumer.pop():
            self.leaders.on_frame((replica, 1), frame)
        self.follow(replica)

    def follow(self, replica: int) -> None:
        """The follower's turn."""
        followers, pop = self.followers[replica], self.down[replica].consumer.pop
        while frame := pop():
            assert not followers.on_frame((4, 1), frame, NOW), "a disk refuses"
        for _, number, offset in followers.acks(followers.take_touched()):
            self.words.store(number, offset)

    def acknowledge(self) -> int:
        """The leader looks at the words; how many partitions moved."""
        return len(self.leaders.on_acks(self.slots.moved(), NOW))


def timed(name: str, count: int, work: Callable[[], object]) -> None:
    """Says how long it took, each."""
    started = time.perf_counter()
    work()
    sys.stdout.write(f"{name:<64} {(time.perf_counter() - started) / count * 1e6:7.2f} us\n")


def one_partition(pair: Pair, run: int, size: int) -> None:
    """Appends in runs of so many batches; the median, as others use the machine too."""
    partition = next(iter(pair.leaders.partitions.values()))
    log = partition.log
    assert isinstance(log, Log)
    batch = memoryview(bytes(build_batch([NewRecord(value=bytes(size), timestamp=NOW)])))
    spent: list[list[float]] = [[], [], [], []]
    clock = time.perf_counter
    rounds = BATCHES // run
    for _ in range(rounds):
        at = [clock()]
        for _ in range(run):
            log.append_as_leader(batch, 0, NOW)
        at.append(clock())
        partition.replicate()
        at.append(clock())
        for replica in REPLICAS[1:]:
            pair.follow(replica)
        at.append(clock())
        pair.acknowledge()
        partition.on_shown()
        at.append(clock())
        for number in range(4):
            spent[number].append(at[number + 1] - at[number])
    assert partition.in_sync.high_watermark == log.log_end_offset
    append, push, follow, acks = (median(one) / run * 1e6 for one in spent)
    sys.stdout.write(
        f"{len(batch):>6} bytes, runs of {run:>3}: append {append:5.2f}, push to two {push:5.2f}, "
        f"each follower {follow / 2:5.2f}, acks and high watermark {acks:5.2f} us a batch\n"
    )


def many_partitions(run_dir: str, count: int) -> None:
    """A turn in which one of many has work."""
    pair = Pair(run_dir, count)
    timed(f"{count} partitions: has_moved, nothing has", 10_000,
          lambda: [pair.slots.has_moved() for _ in range(10_000)])  # fmt: skip
    one_partition(pair, 1, 120)


with ExitStack() as stack:
    small = Pair(stack.enter_context(tempfile.TemporaryDirectory()), 1)
    for run, size in ((1, 120), (16, 120), (1, 4000), (1, 1000)):
        one_partition(small, run, size)
    many_partitions(stack.enter_context(tempfile.TemporaryDirectory()), 300)
