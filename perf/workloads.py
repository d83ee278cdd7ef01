"""The workloads that `make perf` runs, declared, and what each has to reach.

A ratio is Tailrace's figure over Apache Kafka's of the same run, on Kafka's side always over TCP: it has no
other door.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from perf import groups, limits, measures
from perf.batches import ONE_RECORD, batch_of_size
from perf.measures import Figures
from perf.peers.peer import Endpoint

SIXTEEN_KIB = batch_of_size(16 << 10, 1 << 10)
ONE_MIB = batch_of_size(1 << 20, 1 << 10)

SECONDS = 1.5
BYTES_MAX = 384 << 20  # a measurement ends there, so that the disk's write-back does not become the subject
FETCH_LOG_BYTES = 128 << 20


class Workload(NamedTuple):
    """One row of the table: how to measure it on an endpoint, and which of its figures counts."""

    name: str
    measure: Callable[[Endpoint], Figures]
    figure: str
    transports: tuple[str, ...] = ("tcp", "unix")
    warms: bool = True  # whether it is load that lets a JVM compile


class Target(NamedTuple):
    """A ratio that has to be reached on one transport, or the figure itself where `unit` names one."""

    workload: str
    transport: str
    at_least: float | None
    at_most: float | None
    unit: str = ""

    def met(self, ratio: float) -> bool:
        """Whether the ratio, or the figure, is on the right side."""
        high_enough = self.at_least is None or ratio >= self.at_least
        return high_enough and (self.at_most is None or ratio <= self.at_most)

    def text(self) -> str:
        """As one writes it."""
        bound = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:.3g}"
        return f"{bound} {self.unit}".rstrip()


def _produce(size: str, acks: int, in_flight: int) -> Workload:
    batch = {"1 record": ONE_RECORD, "16 KiB": SIXTEEN_KIB, "1 MiB": ONE_MIB}[size]
    name = f"produce {size}, acks {'all' if acks < 0 else acks}, {in_flight} in flight"
    measure = partial(
        measures.produce, batch=batch, acks=acks, in_flight=in_flight, seconds=SECONDS, bytes_max=BYTES_MAX
    )
    return Workload(name, measure, "requests/s" if batch is ONE_RECORD else "MB/s")


def _fetch(size: str, partition_max_bytes: int) -> Workload:
    batch = {"16 KiB": SIXTEEN_KIB, "1 MiB": ONE_MIB}[size]
    measure = partial(
        measures.fetch,
        batch=batch,
        log_bytes=FETCH_LOG_BYTES,
        partition_max_bytes=partition_max_bytes,
        seconds=SECONDS,
    )
    return Workload(f"fetch {size} batches, {partition_max_bytes >> 10} KiB a request", measure, "MB/s")


ROUND_TRIP = [
    Workload(
        f"round trip 1 record, acks {'all' if acks < 0 else acks}",
        partial(measures.round_trip, batch=ONE_RECORD, acks=acks, seconds=SECONDS),
        "p50 us",
    )
    for acks in (1, -1)
]

FIRST_MESSAGES, THIRD_MEMBER = "two members to first message", "third member"


def _members(name: str, measure: Callable[..., Figures], protocol: str) -> Workload:
    """librdkafka knows no Unix sockets."""
    return Workload(f"{name}, {protocol}", partial(measure, protocol=protocol), "s", ("tcp",), warms=False)


COMMIT = Workload("OffsetCommit round trip", partial(groups.commit_round_trip, seconds=SECONDS), "p50 us")
MEMBERS = [
    _members(name, measure, protocol)
    for name, measure in ((FIRST_MESSAGES, groups.first_messages), (THIRD_MEMBER, groups.third_member))
    for protocol in ("classic", "consumer")
]

BESIDE = [
    Workload(f"beside {name}", partial(limits.beside, name=name), limits.FIGURE, ("tcp",), warms=False)
    for name in limits.NEIGHBOURS
]

WORKLOADS = [
    *ROUND_TRIP,
    *(_produce("1 record", acks, 5) for acks in (1, -1)),
    *(
        _produce(size, acks, in_flight)
        for size in ("16 KiB", "1 MiB")
        for acks in (1, -1)
        for in_flight in (1, 5)
    ),
    _fetch("16 KiB", 64 << 10),
    _fetch("1 MiB", 1 << 20),
    COMMIT,
    *MEMBERS,
    *BESIDE,
]

START_UP, REQUESTS, MEMORY, IDLE = "start to first produce", "requests in the 3 s after it", "memory", "idle"
LOADED = f"load {groups.GROUPS:,} groups, {groups.GROUPS * groups.PARTITIONS:,} offsets"

TARGETS = [
    *(Target(row.name, "tcp", None, 0.8) for row in ROUND_TRIP),
    *(Target(row.name, "unix", None, 0.5) for row in ROUND_TRIP),
    *(
        Target(row.name, "tcp", at_least, None)
        for row in WORKLOADS
        for start, at_least in (
            ("produce 1 record", 2.0),
            ("produce 16 KiB", 3.0),
            ("produce 1 MiB", 2.5),
            ("fetch", 1.0),
        )
        if row.name.startswith(start)
    ),
    Target(START_UP, "tcp", None, 1 / 6),
    Target(REQUESTS, "tcp", 8.0, None),
    Target(MEMORY, "tcp", None, 1 / 5),
    Target(IDLE, "tcp", None, 1 / 5),
    *(
        Target(f"{name}, {protocol}", "tcp", None, at_most)
        for name, protocol, at_most in (
            (FIRST_MESSAGES, "classic", 0.2),
            (FIRST_MESSAGES, "consumer", 0.2),
            (THIRD_MEMBER, "classic", 1.0),
            (THIRD_MEMBER, "consumer", 0.3),
        )
    ),
    Target(COMMIT.name, "tcp", None, 1.0),
    Target(LOADED, "tcp", None, 1.0, "s"),
    Target("image: start with 10,000 partitions", "tcp", None, 2.0, "s"),
    *(Target(row.name, "tcp", None, 2.0, "x") for row in BESIDE),
    *(
        Target(f"scale: {name}", "tcp", at_least, at_most, unit)
        for name, at_least, at_most, unit in (
            ("1,000 topics, answered", None, 2.0, ""),
            ("1,000 topics, writable", None, 0.3, ""),
            ("1 topic of 1,000, answered", None, 2.0, ""),
            ("1 topic of 1,000, writable", None, 0.3, ""),
            ("memory, 1,000 partitions", None, 0.5, ""),
            ("idle, 1,000 partitions", None, 1.0, ""),
            ("16 KiB, 1,000 partitions over 8", 1.0, None, ""),
            ("kill -9, 0.1 GB", None, 1.0, "s"),
            ("kill -9, 1 GB", None, 1.0, "s"),
            ("kill -9, 5 GB", None, 0.1, ""),
            ("kill -9, 10 GB", None, 1.0, "s"),
        )
    ),
    *(
        Target(f"replicated: {name}", "tcp", at_least, at_most, unit)
        for name, at_least, at_most, unit in (
            ("round trip, p50", None, 0.4, ""),
            ("round trip, p99", None, 0.3, ""),
            ("produce 1 record, 5 in flight", 6.0, None, ""),
            ("produce 16 KiB, 1 in flight", 6.0, None, ""),
            ("produce 16 KiB, 5 in flight", 6.0, None, ""),
            ("produce 1 MiB, 1 in flight", 3.0, None, ""),
            ("produce 1 MiB, 5 in flight", 3.0, None, ""),
            ("ProducerPerformance 100 B", 2.0, None, ""),
            ("ProducerPerformance 1024 B", 2.0, None, ""),
            ("memory", None, 0.1, ""),
            ("idle", None, 0.1, ""),
            *(
                (f"{kill}{disk}, {what}", None, at_most, "ms")
                for kill, what, at_most in (
                    ("leader process killed", "p50", 50.0),
                    ("leader process killed", "p99", 200.0),
                    ("broker killed", "p50", 200.0),
                    ("controller killed", "p99", 300.0),
                )
                for disk in ("", ", syncs 5 ms slower")
            ),
        )
    ),
]
