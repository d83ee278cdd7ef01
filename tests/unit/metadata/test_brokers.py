"""Brokers that register, are fenced, shut down, lose disks and are given up."""

from typing import Any

import msgspec
import pytest

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.ids import uuid_text
from tailrace.core.metadata.brokers import (
    check_broker_epoch,
    fail_log_dirs,
    fence,
    may_stop,
    register,
    shut_down,
    start_all,
    unfence,
    unregister,
)
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import NO_LEADER, BrokerRegistered
from tests.unit.metadata.cluster import RULES, cluster, part, registration, replay, seen, topic


def test_a_broker_begins_fenced_and_its_epoch_is_where_its_registration_stands() -> None:
    image = cluster([0, 1])
    offset = image.metadata_offset
    found = register(image, registration(0, incarnation=2), RULES, known_lives=False)
    replay(image, found.records)
    assert isinstance(found.records[-1], BrokerRegistered)
    assert image.brokers[0].broker_epoch == found.broker_epoch == offset + len(found.records) - 1
    assert not image.is_active(0)
    assert seen(image) == (1, (1,), 1, 1), "a new incarnation is in sync nowhere"
    check_broker_epoch(image, 0, found.broker_epoch)


def test_the_same_incarnation_amends_what_it_said() -> None:
    image = cluster([0, 1])
    epoch = image.brokers[0].broker_epoch
    more = registration(0, log_dirs=("dir-0", "another"))
    found = register(image, more, RULES, known_lives=True)
    replay(image, found.records)
    assert found.broker_epoch == epoch
    assert image.is_active(0)
    assert image.brokers[0].log_dirs == ("dir-0", "another")
    assert seen(image) == (0, (0, 1), 0, 0)


@pytest.mark.parametrize(
    ("changes", "lives", "code", "sentence"),
    [
        ({}, True, errors.DUPLICATE_BROKER_REGISTRATION, "Another broker is registered with that broker id."),
        ({"log_dirs": ()}, False, errors.INVALID_REGISTRATION, "No directories specified in request"),
        (
            {"log_dirs": (uuid_text(bytes(15) + b"\x05"),)},
            False,
            errors.INVALID_REGISTRATION,
            "Reserved directory ID in request",
        ),
        ({"log_dirs": ("a", "a")}, False, errors.INVALID_REGISTRATION, "Duplicate directory ID in request"),
        (
            {"log_dirs": ("a", "dir-1")},
            False,
            errors.INVALID_REGISTRATION,
            "Broker 1 is already registered with directory dir-1",
        ),
    ],
)
def test_registrations_that_kafka_refuses(
    changes: dict[str, Any], lives: bool, code: int, sentence: str
) -> None:
    asked = msgspec.structs.replace(registration(0, incarnation=2), **changes)
    with pytest.raises(KafkaError) as raised:
        register(cluster([0]), asked, RULES, known_lives=lives)
    assert (raised.value.code, raised.value.message) == (code, sentence)


def test_a_broker_of_another_start_is_told_so() -> None:
    image = cluster([0])
    epoch = image.brokers[1].broker_epoch
    for broker_id, sentence in (
        (1, f"Expected broker epoch {epoch}, but got broker epoch 99"),
        (9, "No broker registration found for broker id 9"),
    ):
        with pytest.raises(KafkaError) as raised:
            check_broker_epoch(image, broker_id, 99)
        assert (raised.value.code, raised.value.message) == (errors.STALE_BROKER_EPOCH, sentence)


def test_a_dead_broker_leads_nothing_and_is_waited_for_by_nobody() -> None:
    image = cluster([0, 1], [1, 0], [2, 1])
    replay(image, fence(image, 0, RULES))
    assert [seen(image, index) for index in range(3)] == [(1, (1,), 1, 1), (1, (1,), 0, 1), (2, (2, 1), 0, 0)]
    assert not image.is_active(0)
    assert [seen(image, index)[0] for index in range(3)] == [1, 1, 2]


def test_before_it_stops_a_broker_has_others_lead() -> None:
    image = cluster([0, 1], [0])
    epoch = image.brokers[0].broker_epoch
    assert not may_stop(image, 0)
    replay(image, shut_down(image, 0, epoch, RULES))
    assert seen(image) == (1, (1,), 1, 1)
    assert seen(image, 1) == (NO_LEADER, (0,), 1, 1), "nobody else has it"
    assert may_stop(image, 0)
    assert image.brokers[0].in_controlled_shutdown
    assert shut_down(image, 0, epoch, RULES) == []
    with pytest.raises(KafkaError):
        shut_down(image, 0, epoch + 1, RULES)


def test_a_broker_that_is_given_up_is_forgotten_and_its_replicas_stay() -> None:
    image = cluster([0, 1])
    replay(image, unregister(image, 0, RULES))
    assert (list(image.brokers), part(image).replicas, seen(image)[:2]) == ([1, 2], (0, 1), (1, (1,)))
    with pytest.raises(KafkaError) as raised:
        unregister(image, 0, RULES)
    assert raised.value.code == errors.BROKER_ID_NOT_REGISTERED
    assert raised.value.message == "Broker ID 0 is not currently registered"


def test_what_lies_on_a_lost_disk_is_led_by_others() -> None:
    image = MetadataImage()
    asked = [registration(0, log_dirs=("a", "b")), registration(1)]
    replay(image, start_all(image, asked, RULES)[0])
    replay(image, topic(image, [0, 1], [0, 1]))
    replay(image, fail_log_dirs(image, 0, ["a", "no such"], RULES))
    assert seen(image)[:2] == (1, (1,))
    assert seen(image, 1)[:2] == (0, (0, 1)), "on the other disk"
    assert image.brokers[0].log_dirs == ("b",)
    assert fail_log_dirs(image, 0, ["a"], RULES) == []
    replay(image, fail_log_dirs(image, 0, ["b"], RULES))
    assert image.brokers[0].fenced, "it has no other"


def test_after_a_full_stop_all_in_sync_still_are() -> None:
    """(R) One by one only the last to come would be, and another may be the one that lost nothing."""
    image = cluster([0, 1, 2], [1, 2], [2])
    records, epochs = start_all(image, [registration(broker, 2) for broker in (0, 1)], RULES)
    offset = image.metadata_offset
    replay(image, records)
    assert epochs == {0: offset, 1: offset + 1}
    assert seen(image) == (0, (0, 1), 1, 1)
    assert seen(image, 1) == (1, (1,), 1, 1)
    assert seen(image, 2) == (NO_LEADER, (2,), 1, 1), "2 is not there"
    assert [image.is_active(broker) for broker in range(3)] == [True, True, False]
    replay(image, register(image, registration(2, 2), RULES, known_lives=False).records)
    replay(image, unfence(image, 2, RULES))
    assert seen(image, 2) == (2, (2,), 2, 2)
