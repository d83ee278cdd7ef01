"""Log directories of replicas."""

from tailrace.core import errors
from tailrace.core.metadata.brokers import start_all
from tailrace.core.metadata.directories import assign_directories, fill_directories
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.leadership import ReplicaKey
from tailrace.core.metadata.records import NO_LEADER, PartitionRecord
from tests.unit.metadata.cluster import RULES, TOPIC_ID, cluster, part, registration, replay, seen, topic


def two_disks(*placed: list[int]) -> MetadataImage:
    """Broker 0 with directories a and b, broker 1 with one."""
    image = MetadataImage()
    replay(image, start_all(image, [registration(0, log_dirs=("a", "b")), registration(1)], RULES)[0])
    replay(image, topic(image, *placed))
    return image


def test_new_replicas_go_where_the_fewest_logs_of_their_broker_are() -> None:
    image = two_disks([0, 1], [1, 0], [0])
    assert [part(image, index).directories for index in range(3)] == [("a", "dir-1"), ("dir-1", "b"), ("a",)]
    assert image.logs_by_directory == {"a": 2, "b": 1, "dir-1": 2}


def test_none_goes_where_the_disk_failed_a_moment_ago() -> None:
    image = two_disks([0])
    record = PartitionRecord(
        topic_id=b"u" * 16, partition=0, replicas=(0,), isr=(0,), leader=0, leader_epoch=0, partition_epoch=0
    )

    def chosen(wished: dict[ReplicaKey, str], *failed: str) -> tuple[str, ...]:
        (filled,) = fill_directories(image, [record], wished, failed)
        assert isinstance(filled, PartitionRecord)
        return filled.directories

    wish = {(b"u" * 16, 0, 0): "a"}
    assert [chosen({}), chosen({}, "b"), chosen({}, "a", "b")] == [("b",), ("a",), ("b",)]
    assert [chosen(wish), chosen(wish, "a"), chosen(wish, "b")] == [("a",), ("b",), ("a",)]


def test_what_is_known_is_not_chosen_again() -> None:
    image = cluster([0, 1])
    assert fill_directories(image, []) == []
    records = topic(image, [0])
    assert fill_directories(image, records) == records


def test_a_broker_says_where_its_replicas_lie() -> None:
    image = two_disks([0, 1])
    epoch = image.brokers[0].broker_epoch
    found = assign_directories(image, 0, epoch, [("b", (TOPIC_ID, 0)), ("b", (TOPIC_ID, 0))], RULES)
    replay(image, found.records)
    assert [result.error_code for result in found.results] == [0, 0]
    assert part(image).directories == ("b", "dir-1")
    assert seen(image) == (0, (0, 1), 0, 1)
    assert assign_directories(image, 0, epoch, [("b", (TOPIC_ID, 0))], RULES).records == []


def test_what_it_cannot_know_is_refused() -> None:
    image = two_disks([1], [0])
    epoch = image.brokers[0].broker_epoch
    asked = [("a", (b"x" * 16, 0)), ("a", (TOPIC_ID, 7)), ("a", (TOPIC_ID, 0))]
    found = assign_directories(image, 0, epoch, asked, RULES)
    assert [result.error_code for result in found.results] == [
        errors.UNKNOWN_TOPIC_ID, errors.UNKNOWN_TOPIC_OR_PARTITION, errors.NOT_LEADER_OR_FOLLOWER,
    ]  # fmt: skip
    assert found.records == []


def test_one_that_lies_where_nothing_serves_leads_nothing() -> None:
    image = two_disks([0, 1], [0])
    epoch = image.brokers[0].broker_epoch
    asked = [("gone", (TOPIC_ID, 0)), ("gone", (TOPIC_ID, 1))]
    replay(image, assign_directories(image, 0, epoch, asked, RULES).records)
    assert (seen(image), part(image).directories) == ((1, (1,), 1, 1), ("gone", "dir-1"))
    assert seen(image, 1) == (NO_LEADER, (0,), 1, 1)
    replay(image, assign_directories(image, 0, epoch, [("b", (TOPIC_ID, 1))], RULES).records)
    assert seen(image, 1) == (0, (0,), 2, 2), "it serves again"
