"""What clients of a partition with several replicas are answered, by the gateways of its brokers."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tailrace.core.config_keys import RACK_AWARE_SELECTOR
from tailrace.core.errors import (
    FENCED_LEADER_EPOCH,
    NONE,
    NOT_LEADER_OR_FOLLOWER,
    OFFSET_OUT_OF_RANGE,
    REQUEST_TIMED_OUT,
    UNKNOWN_LEADER_EPOCH,
)
from tailrace.core.fetch_sessions import FetchPartition
from tailrace.core.metadata.image import PartitionImage
from tailrace.core.metadata.records import PartitionChange
from tailrace.core.protocol.apis import APIS, DELETE_RECORDS, FETCH, METADATA, PRODUCE
from tailrace.core.protocol.compile import decoder
from tailrace.core.protocol.frames import parse_response_header
from tailrace.core.protocol.messages.delete_records import (
    DeleteRecordsRequest,
    DeleteRecordsRequestPartition,
    DeleteRecordsRequestTopic,
)
from tailrace.core.protocol.messages.fetch import FetchRequest, FetchRequestPartition, FetchRequestTopic
from tailrace.core.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tailrace.core.protocol.messages.produce import (
    ProduceRequest,
    ProduceRequestPartition,
    ProduceRequestTopic,
)
from tailrace.shm.state_table import (
    HIGH_WATERMARK,
    LOG_END_OFFSET,
    LOG_START_OFFSET,
    ROLE,
    ROLE_FOLLOWER,
    ROLE_LEADER,
    ROW_GENERATION,
    RowWriter,
)
from tailrace.workers import control
from tailrace.workers.control import ReplicaPlace
from tailrace.workers.gateway.preferred_replicas import preferred_replica
from tests.support.raw_client import framed
from tests.unit.workers.gateway.in_process import (
    BATCH,
    GATEWAY_AT,
    TOPIC,
    TOPIC_ID,
    WORKER_AT,
    InProcess,
    in_process,
)

OTHER = 5  # the id of another broker


@pytest.fixture
def run(tmp_path: Path) -> Iterator[InProcess]:
    with in_process(tmp_path / "data") as made:
        replicas = PartitionChange(
            topic_id=TOPIC_ID, partition=0, replicas=(0, OTHER), isr=(0, OTHER), directories=("", "")
        )
        made.gateway.image.replay([replicas], 3)
        made.lead()
        yield made


def decoded(answer: bytes, key: int, version: int) -> Any:
    """The message of an answer."""
    api = APIS[key]
    _, position = parse_response_header(answer, 0, len(answer), api.response_header_version(version))
    return decoder(api.response, version)(answer, position, len(answer), memoryview(answer))


def produce(timeout_ms: int, acks: int = -1, version: int = 10) -> bytes:
    topic = ProduceRequestTopic(TOPIC, partition_data=[ProduceRequestPartition(0, BATCH)])
    return framed(PRODUCE, version, ProduceRequest(None, acks, timeout_ms, [topic]), correlation_id=7)


def fetch(offset: int, *, version: int = 12, epoch: int = -1, wait_ms: int = 0) -> bytes:
    part = FetchRequestPartition(
        0, current_leader_epoch=epoch, fetch_offset=offset, partition_max_bytes=1 << 20
    )
    topic = FetchRequestTopic(TOPIC, topic_id=TOPIC_ID, partitions=[part])
    asked = FetchRequest(max_wait_ms=wait_ms, min_bytes=1, max_bytes=1 << 20, topics=[topic])
    return framed(FETCH, version, asked, correlation_id=7)


def ask(run: InProcess, frame: bytes, key: int, version: int) -> Any:
    """The answer of a client of its own."""
    client, _ = run.dial()
    client.sendall(frame)
    return decoded(run.answers(client, 1)[0], key, version)


def fetched(run: InProcess, offset: int, **how: int) -> Any:
    """The partition in the answer to a fetch."""
    answer = ask(run, fetch(offset, **how), FETCH, how.get("version", 12))
    return answer.responses[0].partitions[0]


def place_of(broker: int, row: int, log_dir: str = "elsewhere") -> ReplicaPlace:
    return ReplicaPlace(broker=broker, row=row, row_generation=1, worker_slot=WORKER_AT, log_dir=log_dir)


def follow(run: InProcess, epoch: int = 2) -> None:
    """Another broker leads from now on; the row is that of a follower."""
    place = place_of(0, 1, str(run.path))
    run.gateway._on_message(  # pyright: ignore[reportPrivateUsage]
        control.Assigned(
            topic=TOPIC, topic_id=TOPIC_ID, partition=0, broker=OTHER, row=9, row_generation=1,
            worker_slot=GATEWAY_AT, worker_incarnation=run.gateway.context.incarnation,
            leader_epoch=epoch, log_dir="elsewhere", replicas=(place,),
        )
    )  # fmt: skip


def test_who_waits_for_replicas_hears_when_its_time_is_over_and_its_bytes_stay(
    run: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(R) The worker copies them later: another request may not be received there meanwhile."""
    client, _ = run.dial()
    client.sendall(produce(700))
    now_ms = run.gateway.now_ms()
    monkeypatch.setattr(run.gateway, "now_ms", lambda: now_ms)
    while not run.gateway.outstanding.count:
        run.gateway._turn_once(0.01)  # pyright: ignore[reportPrivateUsage]
    assert run.blocks_taken() == 1
    now_ms += 701
    run.gateway._turn_once(0.01)  # pyright: ignore[reportPrivateUsage]
    part = decoded(client.recv(1000)[4:], PRODUCE, 10).responses[0].partition_responses[0]
    assert (part.error_code, part.base_offset) == (REQUEST_TIMED_OUT, -1)
    assert (run.gateway.outstanding.count, run.blocks_taken()) == (1, 1)
    run.turn(5)
    assert (run.gateway.outstanding.count, run.blocks_taken()) == (0, 0)
    client.setblocking(False)
    with pytest.raises(BlockingIOError):  # it is answered once
        client.recv(1)
    row = run.shared.state_table.read(1)
    assert row[LOG_END_OFFSET] > 0, "it stays in the log"


@pytest.mark.parametrize(("acks", "replicas"), [(1, (0, OTHER)), (-1, (0,))])
def test_who_waits_for_the_leader_alone_has_no_time_out(
    run: InProcess, monkeypatch: pytest.MonkeyPatch, acks: int, replicas: tuple[int, ...]
) -> None:
    change = PartitionChange(
        topic_id=TOPIC_ID, partition=0, replicas=replicas, isr=replicas, directories=("",) * len(replicas)
    )
    run.gateway.image.replay([change], 4)
    client, _ = run.dial()
    client.sendall(produce(0, acks))
    while not run.gateway.outstanding.count:
        run.gateway._turn_once(0.01)  # pyright: ignore[reportPrivateUsage]
    later_ms = run.gateway.now_ms() + 60_000
    monkeypatch.setattr(run.gateway, "now_ms", lambda: later_ms)
    run.gateway._turn_once(0.01)  # pyright: ignore[reportPrivateUsage]
    part = decoded(run.answers(client, 1)[0], PRODUCE, 10).responses[0].partition_responses[0]
    assert part.error_code == NONE


def test_who_had_a_batch_at_a_leader_that_died_hears_who_the_next_one_is(
    run: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told nothing, its client would pause."""
    monkeypatch.setattr(run.gateway.brokers, "is_there", {0, OTHER}.__contains__)
    clients = [run.dial()[0] for _ in range(2)]
    clients[0].sendall(produce(30_000))
    while not run.gateway.outstanding.count:
        run.gateway._turn_once(0.01)  # pyright: ignore[reportPrivateUsage]
    run.slots.mark_dead(WORKER_AT, run.worker.incarnation)
    clients[1].sendall(produce(30_000))  # it comes when nobody leads
    for _ in range(20):
        run.gateway._turn_once(0.0)  # pyright: ignore[reportPrivateUsage]
    assert run.gateway.partitions.held_count == 2
    change = PartitionChange(topic_id=TOPIC_ID, partition=0, leader=OTHER, leader_epoch=2, isr=(OTHER,))
    run.gateway.image.replay([change], 4)
    for client in clients:
        part = decoded(run.answers(client, 1)[0], PRODUCE, 10).responses[0].partition_responses[0]
        assert part.error_code == NOT_LEADER_OR_FOLLOWER
        assert (part.current_leader.leader_id, part.current_leader.leader_epoch) == (OTHER, 2)
    assert run.gateway.partitions.held_count == 0


def test_a_leader_that_has_refused_is_not_named_as_the_next_one(
    run: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has resigned, and the gateway takes it for the leader still."""
    monkeypatch.setattr(run.gateway.brokers, "is_there", {0, OTHER}.__contains__)
    run.assign(generation=2)  # of which the worker knows nothing
    client, _ = run.dial()
    client.sendall(produce(30_000))
    while not run.gateway.partitions.held_count:
        run.turn()
    change = PartitionChange(topic_id=TOPIC_ID, partition=0, leader=OTHER, leader_epoch=3, isr=(OTHER,))
    run.gateway.image.replay([change], 4)
    part = decoded(run.answers(client, 1)[0], PRODUCE, 10).responses[0].partition_responses[0]
    assert (part.error_code, part.current_leader.leader_id) == (NOT_LEADER_OR_FOLLOWER, OTHER)


def test_a_follower_is_read_up_to_its_own_high_watermark(run: InProcess) -> None:
    ask(run, produce(1000), PRODUCE, 10)
    end = run.shared.state_table.read(1)[LOG_END_OFFSET]
    run.set_role(ROLE_FOLLOWER)
    follow(run)
    got = fetched(run, 0)
    assert (got.error_code, got.high_watermark, bytes(got.records)[16:]) == (NONE, end, BATCH[16:])
    assert fetched(run, 0, version=10).error_code == NOT_LEADER_OR_FOLLOWER
    assert fetched(run, 0, epoch=0).error_code == FENCED_LEADER_EPOCH
    assert fetched(run, 0, epoch=3).error_code == UNKNOWN_LEADER_EPOCH
    assert fetched(run, end + 1).error_code == OFFSET_OUT_OF_RANGE
    run.set_high_watermark(1, 0)
    got = fetched(run, 0)
    assert (got.error_code, len(got.records)) == (NONE, 0)
    got = fetched(run, end)
    assert (got.error_code, len(got.records)) == (NONE, 0), "beyond the high watermark is not out of range"


def test_a_fetch_waits_at_a_follower_until_its_row_moves(run: InProcess) -> None:
    ask(run, produce(1000), PRODUCE, 10)
    end = run.shared.state_table.read(1)[HIGH_WATERMARK]
    run.set_high_watermark(1, 0)
    run.set_role(ROLE_FOLLOWER)
    follow(run)
    client, connection = run.dial()
    client.sendall(fetch(0, wait_ms=2_000_000_000))
    while not run.gateway.long_polls.has(connection):
        run.turn()
    assert run.shared.waiters.wanted(1, run.gateway.waiter) == 0
    run.set_high_watermark(1, end)
    run.gateway.long_polls.on_row_advanced(1)
    (part,) = decoded(run.answers(client, 1)[0], FETCH, 12).responses[0].partitions
    assert len(part.records) == len(BATCH)


def test_a_row_that_says_leader_is_not_read_once_another_leads_elsewhere(run: InProcess) -> None:
    """Its process died and could not change it."""
    assert fetched(run, 0).error_code == NONE
    change = PartitionChange(topic_id=TOPIC_ID, partition=0, leader=OTHER, leader_epoch=2)
    run.gateway.image.replay([change], 4)
    assert fetched(run, 0).error_code == NOT_LEADER_OR_FOLLOWER


def test_a_leader_that_is_committed_is_waited_for_here_and_told_of_elsewhere(
    run: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image is often there before the process that leads says so."""
    partitions = run.gateway.partitions
    partition = partitions.get(TOPIC, TOPIC_ID, 0)
    follow(run)
    assert partitions.refusal(partition) == NONE, "its broker is gone: the next one is waited for"
    monkeypatch.setattr(partitions, "_is_there", {0, OTHER}.__contains__)
    assert partitions.refusal(partition) == NOT_LEADER_OR_FOLLOWER
    run.gateway.image.replay([PartitionChange(topic_id=TOPIC_ID, partition=0, leader=0, leader_epoch=3)], 4)
    assert partitions.refusal(partition) == NONE
    asked = MetadataRequest(topics=[MetadataRequestTopic(name=TOPIC)], allow_auto_topic_creation=False)
    (told,) = ask(run, framed(METADATA, 12, asked, correlation_id=7), METADATA, 12).topics[0].partitions
    assert (told.leader_epoch, told.replica_nodes) == (3, [0, OTHER])
    run.gateway.image.replay(
        [PartitionChange(topic_id=TOPIC_ID, partition=0, leader=OTHER, leader_epoch=4)], 5
    )
    assert partitions.refusal(partition) == NOT_LEADER_OR_FOLLOWER
    assert partitions.leadership(partition) == (OTHER, 4)


def test_records_are_deleted_once_every_replica_that_is_there_has_done_so(
    run: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {OTHER}
    monkeypatch.setattr(run.gateway.brokers, "is_there", there.__contains__)
    ask(run, produce(1000), PRODUCE, 10)
    follower = RowWriter(run.shared.state_table, 9)
    follower.values[ROLE], follower.values[ROW_GENERATION] = ROLE_FOLLOWER, 1
    follower.publish()
    run.assign(others=(place_of(OTHER, 9),))

    def delete(timeout_ms: int) -> tuple[int, int]:
        client, _ = run.dial()
        topic = DeleteRecordsRequestTopic(TOPIC, [DeleteRecordsRequestPartition(0, -1)])
        asked = DeleteRecordsRequest([topic], timeout_ms)
        client.sendall(framed(DELETE_RECORDS, 1, asked, correlation_id=7))
        (part,) = decoded(run.answers(client, 1)[0], DELETE_RECORDS, 1).topics[0].partitions
        return part.error_code, part.low_watermark

    assert delete(0) == (REQUEST_TIMED_OUT, 0)
    run.gateway.timers.schedule(0, lambda: advance(follower))
    assert delete(60_000) == (NONE, 1)
    follower.values[LOG_START_OFFSET] = 0
    follower.publish()
    there.clear()
    assert delete(60_000) == (NONE, 1)


def advance(follower: RowWriter) -> None:
    """The follower has heard where the log starts."""
    follower.values[LOG_START_OFFSET] = 1
    follower.publish()


# -- the closest replica (KIP-392)


class Racks:
    """Brokers 1 to 3; 1 leads, on row 1; the others' rows have their numbers."""

    def __init__(self) -> None:
        self.rows = {
            broker: {ROLE: ROLE_FOLLOWER, LOG_START_OFFSET: 0, LOG_END_OFFSET: 100} for broker in (1, 2, 3)
        }
        self.rows[1][ROLE] = ROLE_LEADER
        self.racks: dict[int, str | None] = {1: "east", 2: "west", 3: "west"}
        self.isr: tuple[int, ...] = (1, 2, 3)
        self.selector: str | None = RACK_AWARE_SELECTOR
        self.gone: set[int] = set()

    def choose(self, rack: str, offset: int = 100, role: int = ROLE_LEADER) -> int | None:
        places = [
            ReplicaPlace(broker=broker, row=broker, row_generation=1, worker_slot=0, log_dir="")
            for broker in self.rows
        ]
        committed = PartitionImage(
            partition=0, replicas=(1, 2, 3), isr=self.isr, leader=1, leader_epoch=0, partition_epoch=0,
            directories=("", "", ""),
        )  # fmt: skip
        config = SimpleNamespace(replica_selector_class=self.selector, rack=self.racks[1])
        gateway: Any = SimpleNamespace(
            context=SimpleNamespace(node_id=1, config=config),
            image=SimpleNamespace(partition=self._committed(committed)),
            brokers=SimpleNamespace(endpoint=self._endpoint),
            partitions=SimpleNamespace(read_place=self._row_of),
        )
        partition: Any = SimpleNamespace(
            topic_id=TOPIC_ID, partition=0, assigned=SimpleNamespace(replicas=tuple(places))
        )
        request: Any = SimpleNamespace(connection=SimpleNamespace(closed=False))
        asked = FetchPartition(TOPIC, 0, offset, 1, -1)
        row: Any = self.rows[1] | {ROLE: role}
        return preferred_replica(gateway, partition, row, request, rack, asked)

    @staticmethod
    def _committed(partition: PartitionImage) -> Any:
        def find(_topic_id: bytes, _index: int) -> PartitionImage:
            return partition

        return find

    def _row_of(self, place: ReplicaPlace) -> dict[int, int]:
        return self.rows[place.broker]

    def _endpoint(self, broker: int, _connection: Any) -> Any:
        return None if broker in self.gone else SimpleNamespace(rack=self.racks[broker])


def test_a_client_is_sent_to_the_follower_in_its_rack_that_has_most() -> None:
    racks = Racks()
    racks.rows[2][LOG_END_OFFSET] = 101
    assert racks.choose("west") == 2
    racks.rows[3][LOG_END_OFFSET] = 102
    assert racks.choose("west") == 3
    assert racks.choose("east") is None, "the leader is there"
    assert racks.choose("north") is None, "nobody is there"
    assert racks.choose("west", role=ROLE_FOLLOWER) is None, "only a leader sends away"
    racks.gone.add(3)
    assert racks.choose("west") == 2
    racks.isr = (1, 3)
    assert racks.choose("west") is None


def test_a_follower_without_the_offset_is_not_preferred() -> None:
    racks = Racks()
    assert racks.choose("west", 101) is None
    racks.rows[3][LOG_END_OFFSET] = 101
    assert racks.choose("west", 101) == 3
    racks.rows[3][LOG_START_OFFSET] = 50
    assert racks.choose("west", 49) == 2


def test_without_the_selector_everybody_reads_the_leader() -> None:
    racks = Racks()
    racks.selector = None
    assert racks.choose("west") is None
