"""Batches that are bombs, or no batches, in topics and in the log of the group coordinator: whoever opens one
is not hurt, and what else is there is served.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perf import wire
from perf.peers.tailrace import Tailrace
from perf.processes import memory, tree
from tailrace.core.protocol.apis import FIND_COORDINATOR, LIST_OFFSETS, OFFSET_COMMIT, OFFSET_FETCH, PRODUCE
from tailrace.core.protocol.messages.find_coordinator import FindCoordinatorRequest
from tailrace.core.protocol.messages.list_offsets import (
    ListOffsetsRequest,
    ListOffsetsRequestPartition,
    ListOffsetsRequestTopic,
)
from tailrace.core.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from tailrace.core.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup
from tests.support.batches import PAST_MS, batch, changed
from tests.support.data_cases import produce
from tests.support.hostile_batches import bombs
from tests.support.raw_client import RawClient
from tests.support.waiting import wait_until

BOMB_BYTES = 32 << 20  # what they grow to; the look-up opens batches up to a half of it
GROWTH_BYTES_MAX = 64 << 20
ADMIN_CLIENT = "__admin_client"  # who may write the coordinator's log


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Tailrace]:
    """One of its own: it is started twice."""
    started = Tailrace(tmp_path)
    started.start()
    try:
        yield started
    finally:
        started.stop()


def partition_of(answer: Any, what: str) -> dict[str, Any]:
    """The only partition of an answer."""
    found: dict[str, Any] = answer[what][0]["partition_responses" if what == "responses" else "partitions"][0]
    return found


def look_up(client: RawClient, topic: str, timestamp: int) -> dict[str, Any]:
    """The offset of a time."""
    asked = ListOffsetsRequestTopic(topic, [ListOffsetsRequestPartition(0, timestamp=timestamp)])
    return partition_of(client.ask(LIST_OFFSETS, 7, ListOffsetsRequest(topics=[asked])), "topics")


def test_times_are_found_among_bombs(broker: Tailrace) -> None:
    topic, later = "bombs", PAST_MS + 1000
    with wire.Connection(wire.address(broker.bootstrap)) as connection:
        wire.create_topic(connection, topic)
    with RawClient(broker.bootstrap) as client:
        processes, held = tree(broker.pid), memory(broker.pid)
        stored = [
            answer["base_offset"]
            for bomb in bombs(BOMB_BYTES)
            for answer in [partition_of(client.ask(PRODUCE, 9, produce(topic, 0, bomb)), "responses")]
            if not answer["error_code"]
        ]
        assert stored, "some are stored as sent: see LIMITS.md"
        assert look_up(client, topic, PAST_MS)["offset"] == stored[0]
        for timestamp in (later, -3):
            assert look_up(client, topic, timestamp)["error_code"] == 0
        last = partition_of(
            client.ask(
                PRODUCE, 9, produce(topic, 0, changed(batch(1), base_timestamp=later, max_timestamp=later))
            ),
            "responses",
        )
        assert look_up(client, topic, later)["offset"] == last["base_offset"]
        assert set(processes) <= set(tree(broker.pid))
        grown = memory(broker.pid)
        assert grown.anonymous - held.anonymous < GROWTH_BYTES_MAX
    assert "Traceback" not in broker.log_file.read_text()


def test_a_coordinator_loads_its_log_past_what_is_no_record_of_groups(broker: Tailrace) -> None:
    """(R) It ended each process that loaded it."""
    request = OffsetCommitRequest(
        "group", topics=[OffsetCommitRequestTopic("t", partitions=[OffsetCommitRequestPartition(0, 7)])]
    )
    find = FindCoordinatorRequest(coordinator_keys=["group"])
    with wire.Connection(wire.address(broker.bootstrap)) as connection:
        wire.create_topic(connection, "t")
    with RawClient(broker.bootstrap) as client:
        wait_until(lambda: "'error_code': 0" in str(client.ask(FIND_COORDINATOR, 4, find)), "a coordinator")
        wait_until(lambda: "'error_code': 0" in str(client.ask(OFFSET_COMMIT, 8, request)), "a commit")
        for index in range(4):
            for bomb in (*bombs(1 << 20), batch()):
                written = produce("__consumer_offsets", index, bomb)
                client.ask(PRODUCE, 9, written, client_id=ADMIN_CLIENT)
    broker.stop()
    broker.start()
    fetch = OffsetFetchRequest(groups=[OffsetFetchRequestGroup("group")])
    with RawClient(broker.bootstrap) as client:
        wait_until(lambda: "'committed_offset': 7" in str(client.ask(OFFSET_FETCH, 8, fetch)), "the offset")
        assert "'error_code': 0" in str(client.ask(OFFSET_COMMIT, 8, request))
    said = broker.log_file.read_text()
    assert "Traceback" not in said, said[-3000:]
    assert "is passed over" in said
