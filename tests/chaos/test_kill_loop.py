"""kill -9 of every kind of process, again and again, under producers that must not lose anything."""

import contextlib
import os
import signal
from itertools import cycle, islice
from pathlib import Path

import pytest

from perf import wire
from perf.peers.peer import Tcp, free_port
from perf.peers.tailrace import Tailrace
from perf.processes import tree
from tailrace.workers.status import read_status
from tests.chaos.ledger import Ledger, read_numbers
from tests.support.waiting import wait_until

TARGETS = ("worker", "gateway", "controller", "supervisor", "all")
PARTITIONS = 3
BETWEEN_KILLS = 300  # records acknowledged again before the next kill
FULL_KILLS = 60


def victims(broker: Tailrace, target: str) -> list[int]:
    """The processes to kill, the supervisor first; none while the one that is meant is being started."""
    if target == "supervisor":
        return [broker.pid]
    if target == "all":
        return tree(broker.pid)
    status = read_status(str(broker.data))
    processes = status.processes if status is not None else []
    return [process.pid for process in processes if process.role == target and process.pid > 0][:1]


def kill(broker: Tailrace, target: str) -> None:
    """SIGKILL; where the supervisor is gone, wait until its children are too, then start as systemd would."""
    chosen: list[int] = []

    def choose() -> bool:
        chosen[:] = victims(broker, target)
        return bool(chosen)

    wait_until(choose, f"a running {target}")
    everyone = tree(broker.pid)
    for pid in chosen:
        with contextlib.suppress(ProcessLookupError):  # it followed its supervisor
            os.kill(pid, signal.SIGKILL)
    if target in ("supervisor", "all"):
        broker.kill()
        wait_until(
            lambda: not any(Path(f"/proc/{pid}/cwd").exists() for pid in everyone), "the children's end"
        )
        broker.stop()
        broker.start()


def kill_in_a_loop(folder: Path, kills: int) -> None:
    """The whole story: kill, wait until the producers go on, at the end count."""
    port, supervisors = free_port(), set[int]()
    broker = Tailrace(folder, port=port)
    broker.start()
    try:
        bootstrap = broker.bootstrap
        with wire.Connection(Tcp("127.0.0.1", port)) as connection:
            wire.create_topic(connection, "ledger", PARTITIONS)
        with Ledger(bootstrap, "ledger", PARTITIONS) as ledger:
            ledger.goes_on(BETWEEN_KILLS)
            for target in islice(cycle(TARGETS), kills):
                supervisors.add(broker.pid)
                kill(broker, target)
                ledger.goes_on(BETWEEN_KILLS)
        assert not ledger.failed, ledger.failed[:3]
        assert ledger.acknowledged == ledger.sent
        stored = read_numbers(broker.bootstrap, "ledger", ledger.sent)
        assert [len(numbers) for numbers in stored] == ledger.sent
        assert all(numbers == list(range(len(numbers))) for numbers in stored)
    finally:
        broker.stop()
    left = [path for pid in supervisors for path in Path("/dev/shm").glob(f"tailrace-{os.getuid()}-{pid}-*")]
    assert not left, f"the last orderly stop left {left}"
    print(f"{kills} kills, {sum(ledger.sent)} records acknowledged and stored once, in order")


@pytest.mark.timeout(180)
def test_nothing_acknowledged_is_lost_when_each_kind_of_process_is_killed(tmp_path: Path) -> None:
    kill_in_a_loop(tmp_path, len(TARGETS))


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_nothing_acknowledged_is_lost_in_a_long_loop(tmp_path: Path) -> None:
    kill_in_a_loop(tmp_path, FULL_KILLS)
