"""Clients of both kinds beside kill -9, judged by the checker of histories; and a log that loses its tail,
which that checker must see.
"""

import os
import signal
from pathlib import Path

import pytest

from perf import wire
from perf.peers.peer import Tcp, free_port
from perf.peers.tailrace import Tailrace
from tailrace.core.records.batch import HEADER_SIZE, parse_header
from tests.chaos.test_kill_loop import victims
from tests.support.history_run import Crew

PARTITIONS, RECORDS = 2, 300


@pytest.mark.timeout(120)
def test_a_history_with_kills_has_no_faults_until_a_log_loses_its_tail(tmp_path: Path) -> None:
    port = free_port()
    broker = Tailrace(tmp_path, port=port)
    broker.start()
    try:
        assert broker.bootstrap
        brokers = {0: Tcp("127.0.0.1", port)}
        with wire.Connection(brokers[0]) as connection:
            wire.create_topic(connection, "history", PARTITIONS)
        with Crew(brokers, "history", PARTITIONS, replicas=1, producers=1) as crew:
            crew.goes_on(RECORDS)
            for target in ("worker", "gateway"):
                for pid in victims(broker, target):
                    os.kill(pid, signal.SIGKILL)
                crew.goes_on(RECORDS)
            faults, summary = crew.finish()
        assert faults == []
        assert summary.sent == summary.acknowledged == summary.stored >= 3 * RECORDS
        assert summary.read
        broker.stop()
        lost = cut_last_batch(max((broker.data / "history-0").glob("*.log")))
        broker.start()
        assert broker.bootstrap
        found = crew.history.faults(crew.stored())
        assert {"lost"} <= {fault.kind for fault in found} <= {"lost", "vanished"}
        assert crew.history.summary().stored == summary.stored - lost
    finally:
        broker.stop()


def cut_last_batch(log: Path) -> int:
    """Returns how many records were in it."""
    data, position, last, records = log.read_bytes(), 0, 0, 0
    while position + HEADER_SIZE <= len(data) and (header := parse_header(data, position)).size > HEADER_SIZE:
        last, records = position, header.record_count
        position += header.size
    os.truncate(log, last)
    return records
