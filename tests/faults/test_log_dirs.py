"""Several log directories with real processes: one that fails goes offline alone, the rest serve."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import confluent_kafka as ck
import pytest

from perf import wire
from tailrace.core.errors import (
    KAFKA_STORAGE_ERROR,
    LEADER_NOT_AVAILABLE,
    NONE,
    NOT_LEADER_OR_FOLLOWER,
)
from tests.support.log_dirs import (
    Broker,
    Cut,
    Deleted,
    Failing,
    Loss,
    ReadOnly,
    Renamed,
    Unmounted,
    brokers_of,
    load,
    unmount_all,
)
from tests.support.waiting import wait_until

TOPICS = ("one", "two", "three", "four")
IN_FLIGHT = 100

Make = Callable[..., Broker]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """See brokers_of."""
    with brokers_of(Broker, tmp_path / "broker") as made:
        yield made


def test_partitions_spread_over_the_directories_and_stay_there(make: Make) -> None:
    broker = make("a", "b")
    broker.start()
    broker.create(*TOPICS)
    places = {topic: broker.dir_of(topic) for topic in TOPICS}
    assert sorted(path.name for path in places.values()) == ["a", "a", "b", "b"]
    described = broker.described()
    assert list(described) == [str(path) for path in broker.dirs]
    for path, result in described.items():
        assert {topic.name for topic in result.topics} == {
            topic for topic, place in places.items() if str(place) == path
        }
    with load(broker, *TOPICS) as loads:
        wait_until(lambda: all(writer.count > 10 for writer in loads), "some records")
    broker.stop()
    lines = [(path / "recovery-point-offset-checkpoint").read_text() for path in broker.dirs]
    for writer in loads:
        assert [f"{writer.topic} 0 {writer.end}\n" in text for text in lines] == [
            places[writer.topic] == path for path in broker.dirs
        ]
    wider = make("a", "b", "c")  # one more disk
    wider.start()
    assert [wider.end_of(writer.topic) for writer in loads] == [writer.end for writer in loads]
    wider.create("five", "six")
    assert {wider.dir_of(topic).name for topic in ("five", "six")} == {"c"}


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(Renamed(), id="renamed"),
        pytest.param(Deleted(), id="deleted"),
        pytest.param(Unmounted(), id="unmounted"),
        pytest.param(ReadOnly(), id="read-only"),
        pytest.param(Cut(), id="SIGBUS"),
        pytest.param(Failing("ftruncate"), id="EIO of a new segment"),
        pytest.param(Failing("fdatasync"), id="EIO of a sync"),
    ],
)
def test_a_directory_that_fails_goes_offline_alone(make: Make, loss: Loss) -> None:
    broker = make("a", "b", "c")
    lost = broker.dirs[1]
    loss.prepare(lost)
    try:
        lose(broker, loss, lost)
    finally:
        broker.stop()
        unmount_all(lost)


def lose(broker: Broker, loss: Loss, lost: Path) -> None:
    """The story of a directory that fails and is mended."""
    broker.start()
    broker.create(*TOPICS)
    sick = broker.topic_in(lost)
    healthy = [topic for topic in TOPICS if broker.dir_of(topic) != lost]
    with load(broker, sick, *healthy) as loads:
        wait_until(lambda: all(writer.count > 100 for writer in loads), "some records")
        loss.strike(broker, sick, lost)
        wait_until(lambda: KAFKA_STORAGE_ERROR in loads[0].errors, "the directory to be offline")
        counts = [writer.count for writer in loads]
        wait_until(
            lambda: all(writer.count > count + 100 for writer, count in zip(loads, counts, strict=True)),
            "the others to be served",
        )
    assert loads[0].errors <= {KAFKA_STORAGE_ERROR, NOT_LEADER_OR_FOLLOWER}
    assert not set().union(*(writer.errors for writer in loads[1:]))
    if isinstance(loss, Renamed):
        replace_processes(broker)
    check_offline(broker, sick, lost, loss)
    broker.create("late", "later")
    assert lost not in (broker.dir_of("late"), broker.dir_of("later"))
    broker.stop()
    loss.mend(lost)
    broker.start()
    assert [broker.end_of(writer.topic) for writer in loads[1:]] == [writer.end for writer in loads[1:]]
    if loss.keeps_data:
        assert broker.end_of(sick) == loads[0].end
    elif isinstance(loss, Deleted):  # (R) what was acknowledged is gone, and an empty log is no answer
        assert broker.end_of(sick) == -KAFKA_STORAGE_ERROR
        assert not (lost / f"{sick}-0").exists()


def replace_processes(broker: Broker) -> None:
    """Those that decided and that knew die; their successors were not there when it happened."""
    for role in ("controller", "gateway"):
        (pid,) = broker.pids(role)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid, role=role: broker.pids(role) not in ([], [pid]), f"the next {role}")  # type: ignore[misc]


def check_offline(broker: Broker, sick: str, lost: Path, loss: Loss) -> None:
    """Everybody says so, as Kafka does."""
    workers = set(broker.pids("worker"))
    wait_until(lambda: broker.end_of(sick) == -KAFKA_STORAGE_ERROR, "the gateway to know")
    partition = broker.partition(sick)
    assert (partition.error_code, partition.leader_id) == (LEADER_NOT_AVAILABLE, -1)
    assert (partition.isr_nodes, partition.offline_replicas) == ([], partition.replica_nodes)
    result = broker.described()[str(lost)]
    assert (result.error_code, result.topics, result.total_bytes) == (KAFKA_STORAGE_ERROR, [], -1)
    others = [result for path, result in broker.described().items() if path != str(lost)]
    assert [result.error_code for result in others] == [NONE, NONE]
    failures = {log_dir.path: log_dir.failure for log_dir in broker.status().log_dirs}
    assert failures == dict.fromkeys(map(str, broker.dirs), "") | {str(lost): loss.errno_text}
    said = [line for line in broker.said().splitlines() if str(lost) in line]
    assert len(said) == 1, said
    assert loss.errno_text in said[0]
    assert set(broker.pids("worker")) == workers, "nobody is started again and again"


def test_without_the_metadata_log_the_broker_ends(make: Make) -> None:
    """As Kafka: who cannot write down what is decided cannot go on."""
    broker = make("a", "b")
    broker.start()
    broker.create(*TOPICS)
    Renamed().strike(broker, "", broker.dirs[0])
    assert broker.wait() == 1
    (line,) = broker.said().splitlines()
    assert f"{broker.dirs[0]}, where the metadata log lies, has failed" in line
    Renamed().mend(broker.dirs[0])
    broker.start()
    assert {broker.end_of(topic) for topic in TOPICS} == {0}


def test_a_metadata_log_that_cannot_be_synced_ends_the_broker(make: Make) -> None:
    """(R) Nobody was told of what may not be on the disk, and nobody will be."""
    broker = make("a", "b")
    disk = Failing("fdatasync")
    disk.prepare(broker.dirs[0])
    broker.start()
    broker.create(*TOPICS)
    disk.strike_at(broker.pids("controller")[0])
    with pytest.raises(ConnectionError):
        broker.create("late")
    assert broker.wait() == 1
    disk.mend(broker.dirs[0])
    (line,) = broker.said().splitlines()
    assert f"the metadata log in {broker.dirs[0]} has failed" in line
    broker.start()
    assert {broker.end_of(topic) for topic in TOPICS} == {0}


def test_without_any_directory_for_partitions_the_broker_ends(make: Make, tmp_path: Path) -> None:
    broker = make("a", "b", metadata_log_dir=str(tmp_path / "metadata"))
    broker.start()
    broker.create(*TOPICS)
    assert (tmp_path / "metadata" / "__cluster_metadata-0").exists()
    assert not list(tmp_path.glob("metadata/*-0/partition.metadata"))[1:]
    for directory in broker.dirs:
        directory.rename(directory.with_name(f"{directory.name} away"))
    assert broker.wait() == 1
    assert "the last log directory" in broker.said().splitlines()[-1]


def test_a_start_goes_on_without_a_directory_that_cannot_be_used(make: Make) -> None:
    broker = make("a", "b")
    broker.start()
    broker.create(*TOPICS)
    lost = broker.dirs[1]
    sick, well = broker.topic_in(lost), broker.topic_in(broker.dirs[0])
    with load(broker, sick, well) as (first, second):
        wait_until(lambda: min(first.count, second.count) > 10, "some records")
    broker.stop()
    lost.rename(lost.with_name("away"))
    lost.write_text("no directory")
    broker.start()
    assert broker.end_of(well) == second.end
    assert broker.end_of(sick) == -KAFKA_STORAGE_ERROR
    assert broker.described()[str(lost)].error_code == KAFKA_STORAGE_ERROR
    (line,) = broker.said().splitlines()
    assert f"{lost} is not a directory" in line
    broker.create("late")
    assert (broker.dirs[0] / "late-0").exists()
    broker.stop()
    lost.unlink()
    lost.with_name("away").rename(lost)
    broker.start()
    assert broker.end_of(sick) == first.end


def test_a_topic_deleted_while_its_directory_was_away_is_set_aside_when_it_is_back(make: Make) -> None:
    broker = make("a", "b")
    broker.start()
    broker.create(*TOPICS)
    lost = broker.dirs[1]
    sick = broker.topic_in(lost)
    Renamed().strike(broker, sick, lost)
    wait_until(lambda: broker.end_of(sick) == -KAFKA_STORAGE_ERROR, "the directory to be offline")
    with wire.Connection(wire.address(broker.bootstrap)) as connection:
        wire.delete_topic(connection, sick)
    broker.create(sick)
    with load(broker, sick) as (writer,):
        wait_until(lambda: writer.count > 10, "some records")
    broker.stop()
    Renamed().mend(lost)
    broker.start()
    assert broker.end_of(sick) == writer.end
    assert broker.dir_of(sick) == broker.dirs[0]
    assert [path.name.partition(".")[0] for path in lost.glob("*-stray")] == [f"{sick}-0"]


def test_a_partition_moved_while_the_broker_was_stopped_is_found_and_a_copy_set_aside(make: Make) -> None:
    broker = make("a", "b")
    broker.start()
    broker.create(*TOPICS)
    moved = broker.topic_in(broker.dirs[1])
    with load(broker, moved) as (writer,):
        wait_until(lambda: writer.count > 10, "some records")
    target, source = (path / f"{moved}-0" for path in broker.dirs)
    broker.stop()
    shutil.move(source, target)
    for _ in range(2):  # the second start knows by its own record
        broker.stop()
        broker.start()
        assert broker.end_of(moved) == writer.end
        assert broker.dir_of(moved) == broker.dirs[0]
    broker.stop()
    shutil.copytree(target, source)
    broker.start()
    assert broker.end_of(moved) == writer.end
    assert broker.dir_of(moved) == broker.dirs[0]
    line = f"{moved}-0 lies in {broker.dirs[0]}; what lies in {broker.dirs[1]} is set aside"
    assert line in broker.said()
    assert not source.exists()


def test_clients_of_healthy_directories_notice_nothing(make: Make) -> None:
    """librdkafka, idempotent, on topics of all directories: what it took for delivered is there."""
    broker = make("a", "b", "c")
    broker.start()
    broker.create(*TOPICS)
    lost = broker.dirs[1]
    sick = broker.topic_in(lost)
    delivered: dict[str, list[int]] = {topic: [] for topic in TOPICS}
    failed: dict[str, int] = dict.fromkeys(TOPICS, 0)

    def on_delivery(error: ck.KafkaError | None, message: ck.Message) -> None:
        topic = message.topic()
        assert topic is not None
        if error is None:
            delivered[topic].append(message.offset() or 0)
        else:
            failed[topic] += 1

    settings = {"bootstrap.servers": broker.bootstrap, "enable.idempotence": True, "linger.ms": 1}
    producers = {
        topic: ck.Producer(settings | {"message.timeout.ms": 1000 if topic == sick else 60_000})
        for topic in TOPICS
    }

    def produce() -> bool:
        for topic, producer in producers.items():
            if len(producer) < IN_FLIGHT:
                producer.produce(topic, b"value" * 100, partition=0, on_delivery=on_delivery)
            producer.poll(0)
        return all(delivered.values())

    wait_until(produce, "all to be served")
    Renamed().strike(broker, sick, lost)
    wait_until(lambda: produce() and failed[sick], "the sick one to time out")
    for topic in set(TOPICS) - {sick}:
        assert producers[topic].flush(30) == 0
    assert [failed[topic] for topic in TOPICS if topic != sick] == [0, 0, 0]
    producers[sick].purge()
    producers[sick].flush(30)
    broker.stop()
    Renamed().mend(lost)
    broker.start()
    for topic, offsets in delivered.items():
        assert broker.end_of(topic) >= max(offsets) + 1
        assert offsets == sorted(set(offsets))
    for topic in set(TOPICS) - {sick}:
        assert delivered[topic] == list(range(broker.end_of(topic)))
