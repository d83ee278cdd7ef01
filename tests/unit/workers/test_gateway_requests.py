"""CreatePartitions and AlterConfigs through a real controller: what is committed, who is told, and when."""

import pytest

from tailrace.core import errors
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.requests import (
    ConfigChange,
    ConfigResult,
    MorePartitions,
    ResourceChange,
    TopicResult,
)
from tailrace.shm.slots import WORKER
from tailrace.workers.control import (
    AlterConfigs,
    ConfigResults,
    ConfigureReplica,
    CreatePartitions,
    Message,
    ReportReplicas,
    ServeReplica,
    TopicResults,
)
from tailrace.workers.metadata_follower import MetadataFollower
from tailrace.workers.metadata_log import MetadataLog
from tailrace.workers.process import ProcessContext
from tests.unit.workers.controller_run import CONTROLLER_AT, WORKER_AT, Run, heard, held, say

TOPIC, BROKER, GROUP = 2, 4, 32
BIG, BIGGER = "2000000", "3000000"


def image(run: Run) -> MetadataImage:
    """What is committed."""
    follower = MetadataFollower.of(run.gateway)
    follower.poll()
    return follower.image


def more(run: Run, name: str, count: int, *, only: bool = False) -> TopicResult:
    say(
        run.gateway,
        CONTROLLER_AT,
        CreatePartitions(request_id=3, topics=[MorePartitions(name=name, count=count)], validate_only=only),
    )
    run.turn()
    (answer,) = [message for message in heard(run.gateway) if isinstance(message, TopicResults)]
    assert answer.metadata_offset == image(run).metadata_offset
    return answer.results[0]


def alter(run: Run, kind: int, name: str, key: str, value: str, *, only: bool = False) -> ConfigResult:
    change = ConfigChange(key=key, operation=0, value=value)
    resource = ResourceChange(resource_type=kind, name=name, changes=[change])
    say(
        run.gateway,
        CONTROLLER_AT,
        AlterConfigs(request_id=4, resources=[resource], validate_only=only, replaces_all=False),
    )
    run.turn()
    (answer,) = [message for message in heard(run.gateway) if isinstance(message, ConfigResults)]
    assert answer.metadata_offset == image(run).metadata_offset
    return answer.results[0]


def told(messages: list[Message]) -> dict[int, dict[str, str]]:
    """Row to configs."""
    return {message.row: message.configs for message in messages if isinstance(message, ConfigureReplica)}


def serve_two(run: Run) -> tuple[list[ProcessContext], dict[str, int]]:
    """The two workers there are, and the row of each topic."""
    workers = [run.begin(slot, WORKER) for slot in (WORKER_AT, WORKER_AT + 1)]
    run.turn()
    orders = [order for worker in workers for order in heard(worker)]
    return workers, {order.topic: order.row for order in orders if isinstance(order, ServeReplica)}


def heard_by(workers: list[ProcessContext]) -> list[Message]:
    return [message for worker in workers for message in heard(worker)]


def test_new_partitions_are_given_to_workers(run: Run) -> None:
    run.create("t")
    worker, _ = run.serve()
    assert more(run, "t", 2).error_code == errors.NONE
    assert len(image(run).topics_by_name["t"].partitions) == 2
    other = run.begin(WORKER_AT + 1, WORKER)
    run.turn()
    assert not heard(worker), "it goes on with what it has"
    (order,) = heard(other)
    assert isinstance(order, ServeReplica)
    assert (order.partition, order.is_new, order.leader_epoch) == (1, True, 0)


def test_partitions_that_are_only_checked_are_not_made(run: Run) -> None:
    run.create("t")
    assert more(run, "t", 3, only=True).error_code == errors.NONE
    assert more(run, "t", 1, only=True).error_code == errors.INVALID_PARTITIONS
    assert len(image(run).topics_by_name["t"].partitions) == 1


def test_a_topic_of_a_full_host_cannot_grow(run: Run) -> None:
    run.create("t")
    room = run.controller.assignments.seats.rows_free
    assert more(run, "t", room + 2).error_code == errors.POLICY_VIOLATION
    assert more(run, "t", room + 1, only=True).error_code == errors.NONE


def test_workers_are_told_of_other_configs(run: Run) -> None:
    run.create("t")
    run.create("u")
    workers, rows = serve_two(run)
    assert alter(run, TOPIC, "t", "segment.bytes", BIG).error_code == errors.NONE
    assert told(heard_by(workers)) == {rows["t"]: {"segment.bytes": BIG}}
    assert image(run).topic_configs("t") == {"segment.bytes": BIG}


def test_configs_that_are_only_checked_or_refused_change_nothing(run: Run) -> None:
    run.create("t")
    worker, _ = run.serve()
    before = image(run).metadata_offset
    assert alter(run, TOPIC, "t", "segment.bytes", BIG, only=True).error_code == errors.NONE
    assert alter(run, TOPIC, "t", "segment.bytes", "x").error_code == errors.INVALID_CONFIG
    assert image(run).metadata_offset == before
    assert not heard(worker)


def test_the_brokers_keys_reach_all_topics_below_their_own(run: Run) -> None:
    run.create("t")
    run.create("u")
    workers, rows = serve_two(run)
    alter(run, TOPIC, "t", "segment.bytes", BIG)
    heard_by(workers)
    alter(run, BROKER, "", "log.segment.bytes", BIGGER)
    assert told(heard_by(workers)) == {
        rows["t"]: {"segment.bytes": BIG},
        rows["u"]: {"segment.bytes": BIGGER},
    }
    alter(run, BROKER, "0", "log.roll.ms", "5000")
    assert told(heard_by(workers))[rows["u"]] == {"segment.bytes": BIGGER, "segment.ms": "5000"}
    run.create("v")
    (order,) = [order for order in heard_by(workers) if isinstance(order, ServeReplica)]
    assert order.configs == {"segment.bytes": BIGGER, "segment.ms": "5000"}


def test_configs_of_groups_concern_no_worker_of_topics(run: Run) -> None:
    run.create("t")
    worker, _ = run.serve()
    assert alter(run, GROUP, "g", "consumer.session.timeout.ms", "50000").error_code == errors.NONE
    assert image(run).configs[GROUP, "g"] == {"consumer.session.timeout.ms": "50000"}
    assert not heard(worker)


def test_a_successor_tells_what_its_predecessor_had_no_time_to(run: Run) -> None:
    """(R) The configs are committed and the client may have been told so."""
    run.create("t")
    worker, (order,) = run.serve()
    alter(run, TOPIC, "t", "segment.bytes", BIG)
    heard(worker)
    run.die(CONTROLLER_AT)
    run.new_member(worker, [held(order)])
    report, *others = heard(worker)
    assert report == ReportReplicas()
    assert told(others) == {order.row: {"segment.bytes": BIG}}


def test_a_disk_that_takes_nothing_leaves_all_as_it_was(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.create("t")
    worker, _ = run.serve()

    def stage(*_: object) -> None:
        raise errors.KafkaError(errors.KAFKA_STORAGE_ERROR, "full")

    monkeypatch.setattr(MetadataLog, "stage", stage)
    assert more(run, "t", 3).error_code == errors.KAFKA_STORAGE_ERROR
    assert alter(run, TOPIC, "t", "segment.bytes", BIG).error_code == errors.KAFKA_STORAGE_ERROR
    assert len(image(run).topics_by_name["t"].partitions) == 1
    assert not heard(worker)
