"""Producer and consumer against a broker in a thread: what arrives, what is retried, what is refused."""

from collections.abc import Iterator

import pytest

from tailrace.clients.admin import Admin
from tailrace.clients.cluster import Cluster
from tailrace.clients.connection import UnreachableError
from tailrace.clients.consumer import Consumed, Consumer
from tailrace.clients.producer import Producer
from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.protocol.apis import CREATE_TOPICS, FETCH, METADATA, PRODUCE
from tailrace.core.records.compression import CODEC_NAMES
from tailrace.core.records.record import NewRecord, build_batch
from tests.support.fake_broker import CLOSE, FakeBroker, end_offset


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    """A broker with one topic of one partition."""
    with FakeBroker() as fake:
        fake.add_topic("t")
        yield fake


@pytest.fixture
def cluster(broker: FakeBroker) -> Iterator[Cluster]:
    """A client of it."""
    with Cluster(broker.address, timeout_s=5) as known:
        yield known


def read(
    cluster: Cluster, topic: str = "t", start: str | int = "beginning", **options: int
) -> list[Consumed]:
    """Everything from a start to the end of partition 0."""
    consumer = Consumer(cluster, topic, max_wait_ms=1, **options)
    consumer.assign(0, start)
    found = list(consumer.poll())
    while not consumer.at_end(0):
        found += consumer.poll()
    return found


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_records_come_back_as_they_were_sent(codec: str, cluster: Cluster) -> None:
    headers = (("h", b"\0\xff"), ("h", None), ("é", b""))
    with Producer(cluster, codec=codec) as producer:
        producer.send("t", b"v" * 1000, key=b"k", headers=headers, timestamp_ms=123)
        producer.send("t", None, key=None, timestamp_ms=122)
        producer.send("t", b"", key=b"", timestamp_ms=-1)
    found = read(cluster)
    assert [(item.key, item.value, item.timestamp) for item in found] == [
        (b"k", b"v" * 1000, 123),
        (None, None, 122),
        (b"", b"", -1),
    ]
    assert found[0].headers == headers
    assert [item.offset for item in found] == [0, 1, 2]
    assert producer.acknowledged == 3


@pytest.mark.parametrize("fault", [CLOSE, errors.NOT_LEADER_OR_FOLLOWER, errors.NOT_ENOUGH_REPLICAS])
def test_a_batch_is_sent_again_after_a_failure_that_passes(
    fault: int | str, broker: FakeBroker, cluster: Cluster
) -> None:
    broker.faults[PRODUCE] = [fault, fault]
    with Producer(cluster) as producer:
        producer.send("t", b"v")
    assert [item.value for item in read(cluster)] == [b"v"]
    assert producer.acknowledged == 1


def test_a_refusal_that_stays_is_raised(broker: FakeBroker, cluster: Cluster) -> None:
    broker.faults[PRODUCE] = [errors.MESSAGE_TOO_LARGE]
    producer = Producer(cluster)
    producer.send("t", b"v")
    with pytest.raises(KafkaError) as caught:
        producer.flush()
    assert caught.value.code == errors.MESSAGE_TOO_LARGE
    assert producer.acknowledged == 0


def test_a_failure_that_does_not_pass_ends_with_the_delivery_timeout(
    broker: FakeBroker, cluster: Cluster
) -> None:
    broker.faults[PRODUCE] = [CLOSE] * 1000
    producer = Producer(cluster, delivery_timeout_s=0.01)
    producer.send("t", b"v")
    with pytest.raises(UnreachableError):
        producer.flush()


def test_full_batches_go_out_by_themselves(broker: FakeBroker, cluster: Cluster) -> None:
    with Producer(cluster, batch_bytes=1000) as producer:
        for _ in range(30):
            producer.send("t", b"v" * 100)
        assert len(broker.messages(PRODUCE)) == 4
    assert len(read(cluster)) == 30


def test_acks_0_waits_for_nothing(broker: FakeBroker, cluster: Cluster) -> None:
    with Producer(cluster, acks=0) as producer:
        producer.send("t", b"v")
    cluster.metadata(["t"])  # answered in order, so the batch before it was taken
    assert end_offset(broker.topics["t"][0]) == 1


def test_an_unknown_topic_is_made_by_asking_for_it(broker: FakeBroker, cluster: Cluster) -> None:
    broker.auto_partitions = 3
    with Producer(cluster) as producer:
        assert producer.send("new", b"v", key=b"k") in range(3)
    assert len(broker.topics["new"]) == 3


def test_a_partition_that_is_not_there_is_refused(cluster: Cluster) -> None:
    with pytest.raises(KafkaError) as caught:
        Producer(cluster).send("t", b"v", partition=1)
    assert caught.value.code == errors.UNKNOWN_TOPIC_OR_PARTITION


def test_a_topic_without_leaders_is_waited_for(broker: FakeBroker, cluster: Cluster) -> None:
    broker.faults[METADATA] = [errors.LEADER_NOT_AVAILABLE]
    assert len(cluster.topic("t").partitions) == 1


@pytest.mark.parametrize(
    ("start", "expected"),
    [("beginning", 0), ("end", 10), (4, 4), (-3, 7), (-99, 0), ("@1004", 4), ("@9999", 10)],
)
def test_reading_starts_where_it_is_told(
    start: str | int, expected: int, broker: FakeBroker, cluster: Cluster
) -> None:
    producer = Producer(cluster)
    for number in range(10):
        producer.produce("t", 0, [NewRecord(value=b"%d" % number, timestamp=1000 + number)])
    assert [item.offset for item in read(cluster, start=start)] == list(range(expected, 10))
    assert len(broker.messages(PRODUCE)) == 10


def test_a_start_inside_a_batch_leaves_out_what_comes_before(cluster: Cluster) -> None:
    Producer(cluster).produce("t", 0, [NewRecord(value=b"%d" % number) for number in range(10)])
    assert [item.offset for item in read(cluster, start=6)] == [6, 7, 8, 9]


def test_a_batch_cut_at_the_byte_limit_is_read_with_the_next_fetch(cluster: Cluster) -> None:
    producer = Producer(cluster)
    for number in range(10):
        producer.produce("t", 0, [NewRecord(value=b"%d" % number * 50)])
    assert [item.offset for item in read(cluster, partition_max_bytes=300)] == list(range(10))


def test_control_batches_move_the_position_and_are_not_handed_out(
    broker: FakeBroker, cluster: Cluster
) -> None:
    producer = Producer(cluster)
    producer.produce("t", 0, [NewRecord(value=b"a")])
    marker = NewRecord(key=b"\0\0\0\1", value=b"\0\0\0\0\0\0")
    broker.topics["t"][0] += build_batch([marker], base_offset=1, control=True, transactional=True)
    producer.produce("t", 0, [NewRecord(value=b"b")])
    assert [(item.offset, item.value) for item in read(cluster)] == [(0, b"a"), (2, b"b")]


def test_a_batch_whose_crc_is_wrong_is_never_handed_out(broker: FakeBroker, cluster: Cluster) -> None:
    Producer(cluster).produce("t", 0, [NewRecord(value=b"a")])
    broker.topics["t"][0][-2] ^= 1
    with pytest.raises(KafkaError) as caught:
        read(cluster)
    assert caught.value.code == errors.CORRUPT_MESSAGE


@pytest.mark.parametrize("fault", [CLOSE, errors.NOT_LEADER_OR_FOLLOWER])
def test_reading_goes_on_after_a_failure_that_passes(
    fault: int | str, broker: FakeBroker, cluster: Cluster
) -> None:
    Producer(cluster).produce("t", 0, [NewRecord(value=b"a")])
    broker.faults[FETCH] = [fault, fault]
    assert [item.value for item in read(cluster)] == [b"a"]


def test_what_retention_took_is_skipped_and_what_is_not_there_yet_is_refused(
    broker: FakeBroker, cluster: Cluster
) -> None:
    producer = Producer(cluster)
    for number in range(4):
        producer.produce("t", 0, [NewRecord(value=b"%d" % number)])
    broker.starts["t", 0] = 2
    assert [item.offset for item in read(cluster, start=0)] == [2, 3]
    with pytest.raises(KafkaError) as caught:
        read(cluster, start=5)
    assert caught.value.code == errors.OFFSET_OUT_OF_RANGE


def test_a_new_topic_that_brokers_do_not_know_yet_is_waited_for(broker: FakeBroker, cluster: Cluster) -> None:
    broker.faults[METADATA] = [errors.UNKNOWN_TOPIC_OR_PARTITION] * 2
    assert len(cluster.topic("t", expected=True).partitions) == 1
    broker.faults[METADATA] = [errors.UNKNOWN_TOPIC_OR_PARTITION]
    with pytest.raises(KafkaError):
        cluster.topic("t")


def test_every_partition_is_read(broker: FakeBroker, cluster: Cluster) -> None:
    broker.add_topic("three", 3)
    producer = Producer(cluster)
    for partition in range(3):
        producer.produce("three", partition, [NewRecord(value=b"%d" % partition)])
    consumer = Consumer(cluster, "three", max_wait_ms=1)
    for partition in range(3):
        consumer.assign(partition, "beginning")
    assert {(item.partition, item.value) for item in consumer.poll()} == {(0, b"0"), (1, b"1"), (2, b"2")}


def test_topics_are_made_shown_and_deleted(broker: FakeBroker, cluster: Cluster) -> None:
    admin = Admin(cluster)
    assert admin.create_topic("b", partitions=2, configs={"retention.ms": "1"}).num_partitions == 2
    (request,) = broker.messages(CREATE_TOPICS)
    assert [(config.name, config.value) for config in request.topics[0].configs] == [("retention.ms", "1")]
    assert [topic.name for topic in admin.list_topics()] == ["b", "t"]
    assert len(admin.describe_topic("b").partitions) == 2
    with pytest.raises(KafkaError) as caught:
        admin.create_topic("b")
    assert caught.value.code == errors.TOPIC_ALREADY_EXISTS
    admin.delete_topic("b")
    with pytest.raises(KafkaError) as caught:
        admin.describe_topic("b")
    assert caught.value.code == errors.UNKNOWN_TOPIC_OR_PARTITION
