"""CreatePartitions decisions beyond those compared with Kafka's own answers (tests/compat)."""

from tailrace.core import errors
from tailrace.core.metadata.partitions import create_partitions
from tailrace.core.metadata.records import BrokerRegistered, PartitionRecord
from tailrace.core.metadata.requests import MorePartitions
from tests.unit.metadata.test_topics import one_broker

ROOM = 100


def test_new_partitions_follow_the_old_ones() -> None:
    image = one_broker("t")  # with three
    decision = create_partitions(image, [MorePartitions(name="t", count=5)], ROOM)
    records = [record for record in decision.records if isinstance(record, PartitionRecord)]
    assert records == decision.records
    assert [(record.partition, record.leader, record.leader_epoch) for record in records] == [
        (3, 0, 0),
        (4, 0, 0),
    ]
    (result,) = decision.results
    assert (result.error_code, result.num_partitions) == (errors.NONE, 5)
    image.replay(decision.records, image.metadata_offset + 2)
    assert len(image.topics_by_name["t"].partitions) == 5
    assert image.partition_count == 5


def test_a_topic_that_is_refused_hinders_no_other() -> None:
    asked = [MorePartitions(name="absent", count=9), MorePartitions(name="t", count=4)]
    decision = create_partitions(one_broker("t"), asked, ROOM)
    assert [result.error_code for result in decision.results] == [
        errors.UNKNOWN_TOPIC_OR_PARTITION,
        errors.NONE,
    ]
    assert len(decision.records) == 1


def test_the_topics_of_a_request_share_the_room_there_is() -> None:
    image = one_broker("t", "u")
    asked = [MorePartitions(name="t", count=10), MorePartitions(name="u", count=10)]
    first, second = create_partitions(image, asked, 13).results
    assert (first.error_code, second.error_code) == (errors.NONE, errors.POLICY_VIOLATION)
    assert "room for 6 more" in (second.error_message or "")


def test_a_count_beyond_any_host_makes_no_list_of_them() -> None:
    (result,) = create_partitions(one_broker("t"), [MorePartitions(name="t", count=2**31 - 1)], ROOM).results
    assert result.error_code == errors.POLICY_VIOLATION


def test_placed_by_hand_all_have_as_many_replicas() -> None:
    image = one_broker("t")
    image.replay([BrokerRegistered(broker_id=1, broker_epoch=9)], image.metadata_offset + 1)
    good = MorePartitions(name="t", count=5, assignments=[[1], [0]])
    records = create_partitions(image, [good], ROOM).records
    assert [record.replicas for record in records if isinstance(record, PartitionRecord)] == [(1,), (0,)]
    bad = MorePartitions(name="t", count=5, assignments=[[1], [0, 1]])
    (result,) = create_partitions(image, [bad], ROOM).results
    assert result.error_code == errors.INVALID_REPLICA_ASSIGNMENT
    assert result.error_message == (
        "The manual partition assignment includes a partition with 2 replica(s), but this is not consistent "
        "with previous partitions, which have 1 replica(s)."
    )


def test_groups_stay_where_they_are() -> None:
    """(R) With another number of partitions each group would be looked for elsewhere, without its offsets."""
    image = one_broker("__consumer_offsets")
    (result,) = create_partitions(image, [MorePartitions(name="__consumer_offsets", count=9)], ROOM).results
    assert result.error_code == errors.INVALID_REQUEST
