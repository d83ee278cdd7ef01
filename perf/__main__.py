"""`python -m perf`: Tailrace and Apache Kafka on one machine in one run, turn by turn, as ratios."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from perf import durable, groups, images, lifecycle, processes, replicated, scale
from perf.batches import ONE_RECORD
from perf.peers import jars
from perf.peers.kafka import Kafka
from perf.peers.peer import Endpoint, Peer
from perf.peers.tailrace import Tailrace
from perf.report import Report
from perf.workloads import IDLE, LOADED, MEMORY, REQUESTS, START_UP, WORKLOADS, Workload

RESULTS = Path(__file__).with_name("results")
PEERS: dict[str, Callable[[Path], Peer]] = {"kafka": Kafka, "tailrace": Tailrace}
SETTLE_S = 3.0  # after the load, before memory and idle time are looked at
IDLE_S = 10.0


def options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=3, help="measurements of each workload and peer (default 3)"
    )
    parser.add_argument("--peers", default="kafka,tailrace", help="comma list of kafka, tailrace")
    parser.add_argument("--only", default="", help="only workloads whose name contains this")
    parser.add_argument(
        "--warm-up", type=float, default=20.0, help="seconds of load before the first round (default 20)"
    )
    parser.add_argument("--data", type=Path, help="where the brokers' data goes (default: perf/results)")
    parser.add_argument("--no-start-up", action="store_true", help="leave starts and restarts out")
    parser.add_argument(
        "--scale",
        choices=("none", "quick", "full"),
        default="quick",
        help="a thousand partitions; full: four thousand and restarts with 10 GB too (default quick)",
    )
    parser.add_argument(
        "--flush-policy",
        choices=("page", "group", "each"),
        default="page",
        help="Tailrace's, but for the workloads that compare them (default page)",
    )
    parser.add_argument(
        "--kills", type=int, default=20, help="of each kind, of Tailrace with replicas (default 20)"
    )
    return parser.parse_args()


def start_up_rounds(names: list[str], folder: Path, rounds: int, report: Report) -> None:
    """Start each peer in turn on storage it knows, measure its first seconds, stop it."""
    peers = [PEERS[name](folder / f"start-{name}") for name in names]
    for peer in peers:  # the storage is made, the files it needs are in the page cache
        lifecycle.start_up(peer, ONE_RECORD)
        peer.stop()
    for _ in range(rounds):
        for peer in peers:
            try:
                figures = lifecycle.start_up(peer, ONE_RECORD)
            finally:
                peer.stop()
            report.add(START_UP, "first produce s", peer.name, "tcp", figures)
            report.add(REQUESTS, "requests in 3 s", peer.name, "tcp", figures)


def load_groups_rounds(names: list[str], folder: Path, rounds: int, report: Report) -> None:
    """Restart each peer in turn on offsets that it has stored."""
    peers = [PEERS[name](folder / f"groups-{name}") for name in names]
    for peer in peers:
        peer.start()
        try:
            lifecycle.wait_until_served(peer)
            groups.fill(peer)
        finally:
            peer.stop()
    for _ in range(rounds):
        for peer in peers:
            try:
                report.add(LOADED, "s", peer.name, "tcp", groups.load(peer))
            finally:
                peer.stop()


def warm_up(peer: Peer, workloads: list[Workload], seconds: float) -> None:
    """Load of every kind until the time is over: a JVM compiles what it runs often."""
    stop = time.monotonic() + seconds
    while any(workload.warms for workload in workloads) and time.monotonic() < stop:
        for workload in (workload for workload in workloads if workload.warms):
            workload.measure(peer.endpoints()["tcp"])
            if time.monotonic() > stop:
                return


def _doors(peer: Peer, workload: Workload) -> list[tuple[str, Endpoint]]:
    doors = peer.endpoints().items()
    return [(transport, endpoint) for transport, endpoint in doors if transport in workload.transports]


def load_rounds(peers: list[Peer], workloads: list[Workload], rounds: int, report: Report) -> None:
    """Each workload on each peer in turn, round after round."""
    for number in range(rounds):
        for workload in workloads:
            for peer in peers if number % 2 else reversed(peers):
                for transport, endpoint in _doors(peer, workload):
                    os.sync()  # nobody pays for the pages another one has written
                    figures = workload.measure(endpoint)
                    report.add(workload.name, workload.figure, peer.name, transport, figures)
        print(f"round {number + 1} of {rounds} done", file=sys.stderr)


def run(chosen: argparse.Namespace, folder: Path) -> Report:
    """All measurements."""
    names, report = str(chosen.peers).split(","), Report()
    PEERS["tailrace"] = lambda path: Tailrace(path, {"flush.policy": chosen.flush_policy})
    workloads = [workload for workload in WORKLOADS if chosen.only in workload.name]
    if chosen.scale != "none" and chosen.only in ("", "scale"):
        scale.rounds(PEERS, names, folder, chosen.scale, report)
    if chosen.only in durable.NAME:
        makers: dict[str, durable.MakePeer] = {"kafka": Kafka, "tailrace": Tailrace}
        durable.rounds(makers, names, folder, ONE_RECORD, chosen.rounds, report)
    if chosen.only.startswith(replicated.NAME):
        replicated.rounds(names, folder, chosen.only, chosen.rounds, chosen.warm_up, chosen.kills, report)
    if chosen.only.startswith(images.NAME):
        images.rounds(folder, chosen.rounds, report)
    if workloads:
        run_load(chosen, names, workloads, folder, report)
    return report


def run_load(
    chosen: argparse.Namespace, names: list[str], workloads: list[Workload], folder: Path, report: Report
) -> None:
    """Starts, then both peers side by side under load, then what they keep."""
    if not chosen.no_start_up:
        start_up_rounds(names, folder, chosen.rounds, report)
        load_groups_rounds(names, folder, chosen.rounds, report)
    peers = [PEERS[name](folder / name) for name in names]
    try:
        for peer in peers:
            lifecycle.start_up(peer, ONE_RECORD)
            if peer.name == "tailrace":
                report.add(f"{MEMORY} before load", "PSS MB", peer.name, "tcp", lifecycle.memory(peer))
        for peer in peers:
            warm_up(peer, workloads, chosen.warm_up)
        load_rounds(peers, workloads, chosen.rounds, report)
        time.sleep(SETTLE_S)
        for peer in peers:
            report.add(MEMORY, "PSS MB", peer.name, "tcp", lifecycle.memory(peer))
        for name, figures in lifecycle.idle(peers, IDLE_S).items():
            report.add(IDLE, "idle CPU %", name, "tcp", figures)
    finally:
        for peer in peers:
            peer.stop()


def main() -> int:
    """Run, print, save."""
    chosen = options()
    if "kafka" in chosen.peers and not jars.available():
        print(jars.MISSING, file=sys.stderr)
        return 1
    RESULTS.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="data-", dir=chosen.data or RESULTS))
    kind = processes.file_system(folder)
    if kind == "tmpfs":
        print(
            "perf: the data would lie in memory (tmpfs); name a folder on a disk with --data", file=sys.stderr
        )
        return 1
    try:
        report = run(chosen, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"Tailrace with flush.policy={chosen.flush_policy}, unless a workload says otherwise")
    print(report.table())
    path = RESULTS / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}.json"
    report.save(path, {"file system": kind, "kafka": "4.3.1", "flush.policy": chosen.flush_policy})
    print(f"all figures: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
