"""Questions to the leaders of several partitions, answered together, and the sizes of logs."""

# pyright: reportPrivateUsage=false

import errno
import socket
from collections.abc import Generator
from errno import ENOSPC
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from tailrace.core.errors import (
    FENCED_LEADER_EPOCH,
    INVALID_TOPIC_EXCEPTION,
    KAFKA_STORAGE_ERROR,
    NONE,
    NOT_LEADER_OR_FOLLOWER,
    UNKNOWN_LEADER_EPOCH,
    UNKNOWN_TOPIC_OR_PARTITION,
)
from tailrace.core.log import checkpoints
from tailrace.core.metadata.records import PartitionRecord, TopicRecord
from tailrace.core.metadata.topics import OFFSETS_TOPIC
from tailrace.core.protocol.apis import (
    APIS,
    DELETE_RECORDS,
    DESCRIBE_LOG_DIRS,
    DESCRIBE_PRODUCERS,
    OFFSET_FOR_LEADER_EPOCH,
)
from tailrace.core.protocol.compile import decoder
from tailrace.core.protocol.frames import parse_response_header
from tailrace.core.protocol.messages.delete_records import (
    DeleteRecordsRequest,
    DeleteRecordsRequestPartition,
    DeleteRecordsRequestTopic,
)
from tailrace.core.protocol.messages.describe_log_dirs import DescribeLogDirsRequest
from tailrace.core.protocol.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersRequestTopic,
)
from tailrace.core.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochRequestPartition,
    OffsetForLeaderEpochRequestTopic,
)
from tailrace.shm.state_table import LOG_START_OFFSET, ROLE_FOLLOWER
from tailrace.workers.control import Assigned, ReplicaPlace
from tailrace.workers.gateway.handlers import describe_log_dirs
from tailrace.workers.gateway.partition_questions import UNDER_WAY_MAX
from tailrace.workers.gateway.partitions import HOLD_MS
from tests.support.raw_client import framed
from tests.unit.log.logs import NOW, batch
from tests.unit.workers.gateway.in_process import (
    BATCH,
    TOPIC,
    TOPIC_ID,
    WORKER_AT,
    InProcess,
    in_process,
    produce_frame,
)


@pytest.fixture
def run(tmp_path: Path) -> Generator[InProcess, None, None]:
    """A gateway and a worker."""
    with in_process(tmp_path) as made:
        yield made


def send(client: socket.socket, key: int, message: Struct) -> None:
    """A request in its newest version."""
    client.sendall(framed(key, APIS[key].max_version, message))


def answer(run: InProcess, client: socket.socket, key: int) -> Any:
    """The next one."""
    (body,) = run.answers(client, 1)
    api = APIS[key]
    _, position = parse_response_header(body, 0, len(body), api.response_header_version(api.max_version))
    return decoder(api.response, api.max_version)(body, position, len(body), memoryview(body))


def deletion(offset: int, *partitions: int, topic: str = TOPIC) -> DeleteRecordsRequest:
    """Up to an offset."""
    parts = [DeleteRecordsRequestPartition(index, offset) for index in partitions]
    return DeleteRecordsRequest([DeleteRecordsRequestTopic(topic, parts)])


def told(deleted: Any) -> list[tuple[int, int, int]]:
    """Partition, error code, low watermark."""
    return [(p.partition_index, p.error_code, p.low_watermark) for p in deleted.topics[0].partitions]


def test_an_answer_names_the_partitions_that_are_there_and_those_that_are_not(run: InProcess) -> None:
    run.lead()
    client, _ = run.dial()
    client.sendall(produce_frame())
    run.answers(client, 1)
    send(client, DELETE_RECORDS, deletion(-1, 1, 0))
    assert told(answer(run, client, DELETE_RECORDS)) == [(1, UNKNOWN_TOPIC_OR_PARTITION, -1), (0, NONE, 1)]
    assert run.blocks_taken() == 0


def test_a_partition_without_leader_is_waited_for(run: InProcess) -> None:
    client, _ = run.dial()
    send(client, DELETE_RECORDS, deletion(0, 0))
    run.turn(3)
    assert run.gateway.partitions.held_count == 1
    run.lead()
    assert told(answer(run, client, DELETE_RECORDS)) == [(0, NONE, 0)]


def test_more_questions_than_are_asked_at_a_time(run: InProcess) -> None:
    run.lead()
    client, _ = run.dial()
    topic = DescribeProducersRequestTopic(TOPIC, [0, 7] * 3 * UNDER_WAY_MAX)
    send(client, DESCRIBE_PRODUCERS, DescribeProducersRequest([topic]))
    run.gateway._turn_once(0.1)
    assert run.gateway.outstanding.count == UNDER_WAY_MAX
    found = answer(run, client, DESCRIBE_PRODUCERS).topics[0].partitions
    codes = [NONE, UNKNOWN_TOPIC_OR_PARTITION] * 3 * UNDER_WAY_MAX
    assert [part.error_code for part in found] == codes


def test_who_waits_too_long_for_a_leader_hears_so(run: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = run.dial()
    send(client, DELETE_RECORDS, deletion(0, 0))
    run.turn(3)
    now_ms = run.gateway.now_ms()
    monkeypatch.setattr(run.gateway, "now_ms", lambda: now_ms + HOLD_MS)
    assert told(answer(run, client, DELETE_RECORDS)) == [(0, NOT_LEADER_OR_FOLLOWER, -1)]


def test_a_deletion_that_cannot_be_written_down_is_refused(
    run: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(R) The log goes on where it starts, and is deleted from once the disk has room."""
    run.lead()
    client, _ = run.dial()
    client.sendall(produce_frame())
    run.answers(client, 1)

    def full(*_: object) -> None:
        raise OSError(ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_offsets", full)
        send(client, DELETE_RECORDS, deletion(-1, 0))
        assert told(answer(run, client, DELETE_RECORDS)) == [(0, KAFKA_STORAGE_ERROR, -1)]
    assert run.shared.state_table.read_word(1, LOG_START_OFFSET) == 0
    send(client, DELETE_RECORDS, deletion(-1, 0))
    assert told(answer(run, client, DELETE_RECORDS)) == [(0, NONE, 1)]


def test_the_coordinators_own_records_are_not_deleted_by_clients(run: InProcess) -> None:
    topic_id = bytes(15) + b"\x07"
    partition = PartitionRecord(
        topic_id=topic_id, partition=0, replicas=(0,), isr=(0,), leader=0, leader_epoch=0, partition_epoch=0
    )
    run.gateway.image.replay([TopicRecord(name=OFFSETS_TOPIC, topic_id=topic_id), partition], 4)
    client, _ = run.dial()
    send(client, DELETE_RECORDS, deletion(0, 0, topic=OFFSETS_TOPIC))
    assert told(answer(run, client, DELETE_RECORDS)) == [(0, INVALID_TOPIC_EXCEPTION, -1)]


def test_epochs_of_leaders_before_and_after(run: InProcess) -> None:
    """Nothing was written in the leader's epoch 3 yet."""
    run.lead(generation=3)
    client, _ = run.dial()
    asked = [(-1, 0), (3, 3), (2, 0), (4, 0), (3, 4)]
    parts = [OffsetForLeaderEpochRequestPartition(0, *one) for one in asked]
    topic = OffsetForLeaderEpochRequestTopic(TOPIC, parts)
    send(client, OFFSET_FOR_LEADER_EPOCH, OffsetForLeaderEpochRequest(-1, [topic]))
    found = answer(run, client, OFFSET_FOR_LEADER_EPOCH).topics[0].partitions
    assert [(part.error_code, part.leader_epoch, part.end_offset) for part in found] == [
        (NONE, 0, 0),
        (NONE, 3, 0),
        (FENCED_LEADER_EPOCH, -1, -1),
        (UNKNOWN_LEADER_EPOCH, -1, -1),
        (NONE, -1, -1),
    ]


def test_more_producers_than_a_block_takes(run: InProcess) -> None:
    run.lead()
    log = run.leader.replicas.by_row[1].log
    for producer in range(5000):
        log.append_as_leader(batch("x", producer=producer, sequence=0), 1, NOW)
    client, _ = run.dial()
    send(client, DESCRIBE_PRODUCERS, DescribeProducersRequest([DescribeProducersRequestTopic(TOPIC, [0])]))
    found = answer(run, client, DESCRIBE_PRODUCERS).topics[0].partitions[0].active_producers
    assert sorted(producer.producer_id for producer in found) == list(range(5000))
    assert run.blocks_taken() == 0


@pytest.mark.parametrize("logs_a_step", [1, 64])
def test_bytes_of_rolled_and_active_segments(
    run: InProcess, monkeypatch: pytest.MonkeyPatch, logs_a_step: int
) -> None:
    monkeypatch.setattr(describe_log_dirs, "LOGS_A_STEP", logs_a_step)
    run.lead()
    client, _ = run.dial()
    for _ in range(3):
        client.sendall(produce_frame())
        run.answers(client, 1)
        run.leader.replicas.by_row[1].log.roll(NOW)
    client.sendall(produce_frame())
    run.answers(client, 1)
    send(client, DESCRIBE_LOG_DIRS, DescribeLogDirsRequest(None))
    (result,) = answer(run, client, DESCRIBE_LOG_DIRS).results
    (topic,) = result.topics
    assert [(part.partition_index, part.partition_size) for part in topic.partitions] == [(0, 4 * len(BATCH))]
    assert result.log_dir == str(run.path)


def test_a_follower_is_measured_too(run: InProcess) -> None:
    run.lead()
    client, _ = run.dial()
    client.sendall(produce_frame())
    run.answers(client, 1)
    own = ReplicaPlace(broker=0, row=1, row_generation=1, worker_slot=WORKER_AT, log_dir=str(run.path))
    message = Assigned(
        topic=TOPIC, topic_id=TOPIC_ID, partition=0, broker=7, row=9, row_generation=1, worker_slot=1,
        worker_incarnation=1, leader_epoch=5, log_dir="/there", replicas=(own,),
    )  # fmt: skip
    run.gateway._on_message(message)  # pyright: ignore[reportPrivateUsage]
    run.set_role(ROLE_FOLLOWER)
    send(client, DESCRIBE_LOG_DIRS, DescribeLogDirsRequest(None))
    ((topic,),) = (result.topics for result in answer(run, client, DESCRIBE_LOG_DIRS).results)
    assert [(part.partition_index, part.partition_size) for part in topic.partitions] == [(0, len(BATCH))]


def test_a_directory_out_of_service(run: InProcess) -> None:
    """As Kafka: neither logs nor bytes are told of."""
    run.lead()
    client, _ = run.dial()
    run.shared.brokers[0].log_dirs.fail(str(run.path), errno.EIO)
    send(client, DESCRIBE_LOG_DIRS, DescribeLogDirsRequest(None))
    (result,) = answer(run, client, DESCRIBE_LOG_DIRS).results
    assert (result.error_code, result.log_dir) == (KAFKA_STORAGE_ERROR, str(run.path))
    assert (result.topics, result.total_bytes, result.usable_bytes) == ([], -1, -1)
