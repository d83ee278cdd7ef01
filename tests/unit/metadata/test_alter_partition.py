"""What a leader may ask of its in-sync set."""

from typing import Any

import msgspec
import pytest

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.metadata.alter_partition import AlteredPartitions, alter_partitions
from tailrace.core.metadata.brokers import fence, register, shut_down, unfence
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.leadership import leaders_replaced, replicas_died
from tailrace.core.metadata.reassignments import reassign
from tailrace.core.metadata.requests import IsrProposal, Reassignment
from tests.unit.metadata.cluster import RULES, TOPIC_ID, cluster, part, registration, replay, seen


def propose(
    image: MetadataImage, *isr: int | tuple[int, int], sender: int = -1, **changes: Any
) -> AlteredPartitions:
    """By the leader as it knows its partition, with what is changed about that."""
    now = part(image)
    proposal = IsrProposal(
        topic_id=TOPIC_ID,
        partition=0,
        leader_epoch=now.leader_epoch,
        partition_epoch=now.partition_epoch,
        isr=[(member, -1) if isinstance(member, int) else member for member in isr],
    )
    proposal = msgspec.structs.replace(proposal, **changes)
    leader = now.leader if sender < 0 else sender
    return alter_partitions(image, leader, image.brokers[leader].broker_epoch, [proposal], RULES)


def shrunk() -> MetadataImage:
    """Leader 0, alone in sync of 0, 1 and 2, in leader epoch 1 and partition epoch 3."""
    image = cluster([1, 0, 2])
    replay(image, replicas_died(image, [(TOPIC_ID, 0, 1)], RULES))
    replay(image, replicas_died(image, [(TOPIC_ID, 0, 2)], RULES))
    assert seen(image) == (0, (0,), 1, 2)
    return image


def test_a_leader_takes_who_caught_up_into_its_isr_and_puts_out_who_lags() -> None:
    image = shrunk()
    found = propose(image, 0, (2, image.brokers[2].broker_epoch))
    replay(image, found.records)
    assert seen(image) == (0, (0, 2), 1, 3)
    (result,) = found.results
    assert (result.error_code, result.leader, result.isr, result.leader_epoch, result.partition_epoch) == (
        0, 0, (0, 2), 1, 3,
    )  # fmt: skip
    replay(image, propose(image, 0).records)
    assert seen(image) == (0, (0,), 1, 4)


def test_what_is_so_already_changes_nothing() -> None:
    found = propose(shrunk(), 0)
    assert (found.records, found.results[0].error_code, found.results[0].partition_epoch) == ([], 0, 2)


@pytest.mark.parametrize(
    ("isr", "changes", "code"),
    [
        ((0, 2), {"topic_id": b"x" * 16}, errors.UNKNOWN_TOPIC_ID),
        ((0, 2), {"partition": 9}, errors.UNKNOWN_TOPIC_OR_PARTITION),
        ((0, 2), {"leader_epoch": 2}, errors.NOT_CONTROLLER),
        ((0, 2), {"partition_epoch": 3}, errors.NOT_CONTROLLER),
        ((0, 2), {"leader_epoch": 0}, errors.FENCED_LEADER_EPOCH),
        ((0, 2), {"sender": 1}, errors.INVALID_REQUEST),
        ((0, 2), {"partition_epoch": 1}, errors.INVALID_UPDATE_VERSION),
        ((0, 2), {"partition_epoch": 1, "sender": 1}, errors.INVALID_REQUEST),
        ((0, 3), {}, errors.INVALID_REQUEST),
        ((0, 2, 2), {}, errors.INVALID_REQUEST),
        ((2,), {}, errors.INVALID_REQUEST),
        ((), {}, errors.INVALID_REQUEST),
        ((0, (2, 999)), {}, errors.INELIGIBLE_REPLICA),
    ],
)
def test_proposals_that_kafka_refuses(isr: tuple[Any, ...], changes: dict[str, Any], code: int) -> None:
    found = propose(shrunk(), *isr, **changes)
    assert (found.records, found.results[0].error_code) == ([], code)


def test_who_is_fenced_or_stops_or_started_anew_cannot_join() -> None:
    """(R) A new incarnation may lack what the old one had."""
    image = shrunk()
    old_epoch = image.brokers[2].broker_epoch
    replay(image, fence(image, 2, RULES))
    assert propose(image, 0, 2).results[0].error_code == errors.INELIGIBLE_REPLICA
    replay(image, register(image, registration(2, 2), RULES, known_lives=False).records)
    replay(image, unfence(image, 2, RULES))
    assert propose(image, 0, (2, old_epoch)).results[0].error_code == errors.INELIGIBLE_REPLICA
    assert propose(image, 0, (2, image.brokers[2].broker_epoch)).results[0].error_code == errors.NONE
    replay(image, shut_down(image, 2, image.brokers[2].broker_epoch, RULES))
    assert propose(image, 0, 2).results[0].error_code == errors.INELIGIBLE_REPLICA


def test_a_leader_of_an_earlier_start_is_refused_as_a_whole() -> None:
    image = shrunk()
    with pytest.raises(KafkaError) as raised:
        alter_partitions(image, 0, 99, [], RULES)
    assert raised.value.code == errors.STALE_BROKER_EPOCH


def test_of_two_proposals_for_a_partition_the_second_is_late() -> None:
    image = shrunk()
    proposal = IsrProposal(
        topic_id=TOPIC_ID, partition=0, leader_epoch=1, partition_epoch=2, isr=[(0, -1), (2, -1)]
    )
    epoch = image.brokers[0].broker_epoch
    found = alter_partitions(image, 0, epoch, [proposal, proposal], RULES)
    assert [result.error_code for result in found.results] == [0, errors.INVALID_UPDATE_VERSION]
    assert len(found.records) == 1


def test_a_proposal_that_ends_a_move_replaces_a_leader_that_goes() -> None:
    image = cluster([0])
    replay(image, reassign(image, [Reassignment(topic="t", partition=0, replicas=(1,))], RULES).records)
    found = propose(image, 0, 1)
    assert found.results[0].error_code == errors.NEW_LEADER_ELECTED
    assert leaders_replaced(image, found.records) == [(TOPIC_ID, 0, 0)]
    replay(image, found.records)
    assert seen(image) == (1, (1,), 1, 2)
    assert part(image).replicas == (1,)
