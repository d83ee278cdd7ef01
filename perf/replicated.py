"""Three brokers on one host with three replicas, min.insync.replicas 2 and acks=all: Tailrace beside Apache
Kafka. Round trips, throughput, Kafka's own ProducerPerformance, memory, idle time, and what deaths cost.

Both clusters run at the same time and are measured in turn, as elsewhere; the kills come last, one cluster
after the other.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from perf import lifecycle, measures, processes, wire
from perf.batches import ONE_RECORD, batch_of_size
from perf.failover import KINDS, failovers
from perf.measures import Figures, new_topic
from perf.peers.cluster import Cluster
from perf.peers.jars import class_path
from perf.peers.kafka_cluster import KafkaCluster
from perf.peers.peer import Tcp
from perf.peers.tailrace_cluster import TailraceCluster
from perf.report import Report

NAME = "replicated"
SECONDS, SETTLE_S, IDLE_S = 2.0, 3.0, 10.0
BYTES_MAX = 128 << 20  # three copies of it are written
SYNC_DELAY_MS = 5.0
KAFKA_KILLS = 3  # each takes its session time-out
SLOW = ", syncs 5 ms slower"
RECORDS = {100: 500_000, 1_024: 100_000}  # that ProducerPerformance sends, by their size
SENT = re.compile(rb"^(\d+) (?:steady state )?records sent, ([\d.]+) records/sec", re.MULTILINE)

CLUSTERS: dict[str, Callable[[Path], Cluster]] = {"kafka": KafkaCluster, "tailrace": TailraceCluster}


class Row(NamedTuple):
    """A measurement under load, and the rows of the table that show figures of it."""

    measure: Callable[[Cluster], Figures]
    shown: Sequence[tuple[str, str]]  # name, figure


def name(what: str) -> str:
    """As it stands in the table, and as --only finds it."""
    return f"{NAME}: {what}"


def _on_leader(cluster: Cluster, measure: Callable[..., Figures]) -> Figures:
    """With a topic that the first broker leads and the others follow."""
    brokers = cluster.brokers()
    return measure(next(iter(brokers.values())), replicas=list(brokers))


def _produce(size: str, in_flight: int, figure: str) -> Row:
    batch = {
        "1 record": ONE_RECORD,
        "16 KiB": batch_of_size(16 << 10, 1 << 10),
        "1 MiB": batch_of_size(1 << 20, 1 << 10),
    }[size]
    measure = partial(
        measures.produce, batch=batch, acks=-1, in_flight=in_flight, seconds=SECONDS, bytes_max=BYTES_MAX
    )
    shown = [(name(f"produce {size}, {in_flight} in flight"), figure)]
    return Row(partial(_on_leader, measure=measure), shown)


ROUND_TRIP = Row(
    partial(_on_leader, measure=partial(measures.round_trip, batch=ONE_RECORD, acks=-1, seconds=SECONDS)),
    [(name("round trip, p50"), "p50 us"), (name("round trip, p99"), "p99 us")],
)
LOAD = [
    ROUND_TRIP,
    _produce("1 record", 5, "requests/s"),
    *(_produce(size, in_flight, "MB/s") for size in ("16 KiB", "1 MiB") for in_flight in (1, 5)),
]


def producer_performance(cluster: Cluster, size: int) -> Figures:
    """Kafka's own tool with its defaults (acks=all, idempotent): 10^6 bytes of records a second."""
    brokers = cluster.brokers()
    first = next(iter(brokers.values()))
    topic, records = new_topic(), RECORDS[size]
    with wire.Connection(first) as connection:
        wire.create_topic(connection, topic, replicas=list(brokers))
        options = ["--topic", topic, "--num-records", str(records), "--record-size", str(size)]
        options += ["--throughput", "-1", "--warmup-records", str(records // 5)]
        options += ["--bootstrap-server", f"{first.host}:{first.port}"]
        tool = ["java", "-Xmx512M", "-cp", class_path(), "org.apache.kafka.tools.ProducerPerformance"]
        done = subprocess.run([*tool, *options], capture_output=True, check=True)
        wire.delete_topic(connection, topic)
    sent = SENT.findall(done.stdout)
    if not sent:
        raise RuntimeError(f"ProducerPerformance said: {done.stdout.decode()}{done.stderr.decode()}")
    records_a_second = float(sent[-1][1])
    return {"MB/s": records_a_second * size / 1e6, "records/s": records_a_second}


TOOL = [
    Row(partial(producer_performance, size=size), [(name(f"ProducerPerformance {size} B"), "MB/s")])
    for size in RECORDS
]
MEMORY, IDLE = name("memory"), name("idle")
QUANTILES = ("p50", "p99")
NAMES = {
    MEMORY,
    IDLE,
    *(shown for row in (*LOAD, *TOOL) for shown, _ in row.shown),
    *(name(f"{kind.name}{disk}, {what}") for kind in KINDS for disk in ("", SLOW) for what in QUANTILES),
}


def memory(cluster: Cluster) -> Figures:
    """Proportional set size of all its processes in MB."""
    used = [processes.memory(root) for root in cluster.roots()]
    return {
        "PSS MB": sum(one.total for one in used) / 1e6,
        "of it files MB": sum(one.file for one in used) / 1e6,
    }


def idle(clusters: Sequence[Cluster]) -> dict[str, Figures]:
    """Share of one processor that each takes while nobody asks it anything."""

    def used() -> dict[str, float]:
        return {one.name: sum(map(processes.processor_seconds, one.roots())) for one in clusters}

    before, begin = used(), time.perf_counter()
    time.sleep(IDLE_S)
    after, taken = used(), time.perf_counter() - begin
    return {one: {"idle CPU %": (after[one] - before[one]) / taken * 100} for one in after}


def wait_until_served(cluster: Cluster) -> None:
    """Wait until a topic with a replica in each broker can be made and written to; it is removed again."""
    brokers = cluster.brokers()
    give_up = time.perf_counter() + lifecycle.START_PATIENCE_S
    for address in brokers.values():
        lifecycle.connect(address, give_up).socket.close()
    first: Tcp = next(iter(brokers.values()))
    while True:
        try:
            measures.produce(first, ONE_RECORD, -1, 1, 0.0, 0, list(brokers))
            return
        except (wire.WireError, OSError):  # a broker has not registered yet
            if time.perf_counter() > give_up:
                raise
            time.sleep(0.05)


def warm_up(cluster: Cluster, rows: Sequence[Row], seconds: float) -> None:
    """Load of every kind until the time is over: a JVM compiles what it runs often. It is over later for
    three that compile the same on the processors that one has elsewhere.
    """
    stop = time.monotonic() + seconds * len(cluster.roots())
    while rows and time.monotonic() < stop:
        for row in rows:
            row.measure(cluster)
            if time.monotonic() > stop:
                return


def load_rounds(clusters: Sequence[Cluster], rows: Sequence[Row], rounds: int, report: Report) -> None:
    """Each row on each cluster in turn, round after round."""
    for number in range(rounds):
        for row in rows:
            for cluster in clusters if number % 2 else reversed(clusters):
                os.sync()  # nobody pays for the pages another one has written
                figures = row.measure(cluster)
                for shown, figure in row.shown:
                    report.add(shown, figure, cluster.name, "tcp", figures)
        print(f"round {number + 1} of {rounds} with replicas done", file=sys.stderr)


def kill_rounds(cluster: Cluster, only: str, kills: int, report: Report, suffix: str = "") -> None:
    """Deaths of every kind that is asked for; where one process is all of them, one kind stands for two."""
    brokers = cluster.brokers()
    topic = new_topic()
    for kind in KINDS:
        rows = [(name(f"{kind.name}{suffix}, {what}"), f"{what} ms") for what in QUANTILES]
        if not any(only in row for row, _ in rows):
            continue
        with wire.Connection(next(iter(brokers.values()))) as connection:
            wire.create_topic(connection, topic, replicas=list(brokers))
        figures = failovers(cluster, kind, topic, kills)
        for row, figure in rows:
            report.add(row, figure, cluster.name, "tcp", figures)
        topic = new_topic()


def rounds(
    names: Sequence[str],
    folder: Path,
    only: str,
    count: int,
    warm_up_s: float,
    kills: int,
    report: Report,
) -> None:
    """All of it whose name holds `only`; `kills` of each kind for Tailrace."""
    load = [row for row in LOAD if any(only in shown for shown, _ in row.shown)]
    tool = [row for row in TOOL if any(only in shown for shown, _ in row.shown)]
    clusters = [CLUSTERS[one](folder / f"{NAME}-{one}") for one in names]
    try:
        for cluster in clusters:
            cluster.start()
        for cluster in clusters:
            wait_until_served(cluster)
        kept = only in MEMORY or only in IDLE  # what is kept is what load has left
        for cluster in clusters:
            warm_up(cluster, [*load, *tool] or (LOAD if kept else []), warm_up_s)
        load_rounds(clusters, [*load, *tool], count, report)
        if kept:
            time.sleep(SETTLE_S)
            for cluster in clusters:
                report.add(MEMORY, "PSS MB", cluster.name, "tcp", memory(cluster))
            for one, figures in idle(clusters).items():
                report.add(IDLE, "idle CPU %", one, "tcp", figures)
        for cluster in clusters:
            kill_rounds(cluster, only, KAFKA_KILLS if cluster.name == "kafka" else kills, report)
            cluster.stop()
    finally:
        for cluster in clusters:
            cluster.stop()
    if "tailrace" in names:
        slow_syncs(folder, only, kills, report)


def slow_syncs(folder: Path, only: str, kills: int, report: Report) -> None:
    """The same deaths on a disk that takes longer to sync."""
    cluster = TailraceCluster(folder / f"{NAME}-slow", sync_delay_ms=SYNC_DELAY_MS)
    try:
        cluster.start()
        wait_until_served(cluster)
        kill_rounds(cluster, only, kills, report, SLOW)
    finally:
        cluster.stop()
