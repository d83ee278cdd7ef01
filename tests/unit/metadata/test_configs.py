"""Alterations of configs beyond those compared with Kafka's own answers (tests/compat)."""

import pytest

from tailrace.core import errors
from tailrace.core.config import ACCEPTED_IDLE, OBEYED_TOPIC_KEYS, load, log_config, min_insync_replicas
from tailrace.core.config_dynamic import KAFKA_DYNAMIC, OBEYED_LIVE
from tailrace.core.config_keys import BROKER_KEYS, MIN_INSYNC, NOT_YET_OBEYED, TOPIC_KEYS
from tailrace.core.metadata.configs import Alteration, alter_configs, told_configs
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import ConfigRecord
from tailrace.core.metadata.requests import APPEND, DELETE, SET, SUBTRACT, ConfigChange, ResourceChange
from tests.unit.metadata.test_topics import one_broker

TOPIC, BROKER, GROUP = 2, 4, 32
CONFIG = load({})[0]


def of(kind: int, name: str, *changes: tuple[str, str | None, int]) -> ResourceChange:
    """The changes of a resource."""
    return ResourceChange(
        resource_type=kind,
        name=name,
        changes=[ConfigChange(key=key, operation=how, value=value) for key, value, how in changes],
    )


def alter(image: MetadataImage, *resources: ResourceChange, replaces_all: bool = False) -> Alteration:
    """Decide, and have the image take it in."""
    found = alter_configs(image, resources, CONFIG, 0, replaces_all=replaces_all)
    image.replay(found.records, image.metadata_offset + len(found.records))
    return found


def code(image: MetadataImage, *resources: ResourceChange) -> int:
    """What the only resource is answered."""
    (result,) = alter_configs(image, resources, CONFIG, 0, replaces_all=False).results
    return result.error_code


def test_what_does_not_change_is_not_written() -> None:
    image = one_broker("t")
    change = of(TOPIC, "t", ("segment.ms", "5", SET))
    assert alter(image, change).changed == [(TOPIC, "t")]
    again = alter(image, change)
    assert (again.records, again.changed) == ([], [])
    assert again.results[0].error_code == errors.NONE


def test_a_resource_that_is_refused_hinders_no_other() -> None:
    image = one_broker("t", "u")
    found = alter(image, of(TOPIC, "t", ("segment.ms", "x", SET)), of(TOPIC, "u", ("segment.ms", "5", SET)))
    assert [result.error_code for result in found.results] == [errors.INVALID_CONFIG, errors.NONE]
    assert found.records == [ConfigRecord(resource_type=TOPIC, name="u", key="segment.ms", value="5")]


def test_replacing_removes_what_is_not_named() -> None:
    image = one_broker("t")
    alter(image, of(TOPIC, "t", ("segment.ms", "5", SET), ("flush.ms", "6", SET)))
    found = alter(image, of(TOPIC, "t", ("flush.ms", "7", SET)), replaces_all=True)
    assert {(record.key, record.value) for record in found.records if isinstance(record, ConfigRecord)} == {
        ("flush.ms", "7"),
        ("segment.ms", None),
    }
    assert image.topic_configs("t") == {"flush.ms": "7"}


def test_lists_begin_with_what_would_hold_without_them() -> None:
    image = one_broker("t")
    alter(image, of(TOPIC, "t", ("cleanup.policy", "compact", APPEND)))
    assert image.topic_configs("t") == {"cleanup.policy": "delete,compact"}
    alter(image, of(TOPIC, "t", ("cleanup.policy", "delete", SUBTRACT)))
    assert image.topic_configs("t") == {"cleanup.policy": "compact"}


def test_a_key_that_nothing_obeys_is_refused_but_for_those_that_clients_set() -> None:
    image = one_broker("t")
    for name in TOPIC_KEYS.keys() - OBEYED_TOPIC_KEYS - ACCEPTED_IDLE:
        default = TOPIC_KEYS[name].default
        other = {"LIST": "0:0", "BOOLEAN": "true"}.get(TOPIC_KEYS[name].kind, "2")
        if name == "unclean.leader.election.enable":
            continue  # true is what happens anyway
        assert str(default) != other
        asked = alter_configs(image, [of(TOPIC, "t", (name, other, SET))], CONFIG, 0, replaces_all=False)
        (result,) = asked.results
        assert result.error_code == errors.INVALID_CONFIG, name
        assert "LIMITS.md" in (result.error_message or ""), name
    for name, value in (("cleanup.policy", "compact"), ("retention.ms", "5"), ("min.insync.replicas", "2")):
        assert code(image, of(TOPIC, "t", (name, value, SET))) == errors.NONE
    for name, value in (("unclean.leader.election.enable", "true"), ("file.delete.delay.ms", "60000")):
        assert code(image, of(TOPIC, "t", (name, value, SET))) == errors.NONE, "as it is anyway"


def test_how_many_have_to_be_in_sync_may_be_altered_for_all_topics() -> None:
    image = one_broker("t")
    assert code(image, of(BROKER, "", (MIN_INSYNC, "0", SET))) == errors.INVALID_REQUEST
    alter(image, of(BROKER, "", (MIN_INSYNC, "3", SET)))
    assert min_insync_replicas(told_configs(image, "t", 0), CONFIG) == 3
    alter(image, of(TOPIC, "t", (MIN_INSYNC, "2", SET)))
    assert min_insync_replicas(told_configs(image, "t", 0), CONFIG) == 2
    alter(image, of(TOPIC, "t", (MIN_INSYNC, None, DELETE)), of(BROKER, "", (MIN_INSYNC, None, DELETE)))
    assert min_insync_replicas(told_configs(image, "t", 0), CONFIG) == 1


def test_what_a_topic_was_made_with_stays_allowed() -> None:
    image = one_broker("t")
    made = ConfigRecord(resource_type=TOPIC, name="t", key="file.delete.delay.ms", value="9")
    image.replay([made], image.metadata_offset + 1)
    both = of(TOPIC, "t", ("file.delete.delay.ms", "9", SET), ("segment.ms", "5000", SET))
    (result,) = alter(image, both, replaces_all=True).results
    assert result.error_code == errors.NONE
    assert code(image, of(TOPIC, "t", ("file.delete.delay.ms", "8", SET))) == errors.INVALID_CONFIG


def test_a_value_is_bounded() -> None:
    longest = "0:1," * 8191 + "0:1"
    assert len(longest) == 32767
    change = of(TOPIC, "t", ("leader.replication.throttled.replicas", longest + ",0:1", SET))
    (result,) = alter_configs(one_broker("t"), [change], CONFIG, 0, replaces_all=False).results
    assert (result.error_code, "32767 bytes" in (result.error_message or "")) == (errors.INVALID_CONFIG, True)


@pytest.mark.parametrize("operation", [4, -1, 99])
def test_unknown_operations_are_refused(operation: int) -> None:
    image = one_broker("t")
    for kind, name in ((TOPIC, "t"), (BROKER, ""), (GROUP, "g")):
        assert code(image, of(kind, name, ("a", "1", operation))) == errors.INVALID_REQUEST


@pytest.mark.parametrize("kind", [0, 3, 8, 16, 99])
def test_other_resources_have_no_configs_to_alter(kind: int) -> None:
    assert code(MetadataImage(), of(kind, "0", ("a", "1", SET))) == errors.INVALID_REQUEST


def test_broker_keys_that_cannot_be_obeyed_live_are_refused() -> None:
    for name in (*BROKER_KEYS, "no.such.key"):
        if name not in OBEYED_LIVE:
            assert code(MetadataImage(), of(BROKER, "", (name, "1", SET))) == errors.INVALID_REQUEST, name
    assert not OBEYED_LIVE & NOT_YET_OBEYED
    assert OBEYED_LIVE <= KAFKA_DYNAMIC


def test_a_broker_key_must_suit_the_topic_key_it_stands_for() -> None:
    change = of(BROKER, "", ("log.flush.interval.ms", "-1", SET))
    (result,) = alter_configs(MetadataImage(), [change], CONFIG, 0, replaces_all=False).results
    assert result.error_code == errors.INVALID_REQUEST
    assert result.error_message == (
        "Invalid value -1 for configuration log.flush.interval.ms: Value must be at least 0"
    )


def test_logs_are_told_the_nearest_setting() -> None:
    image = one_broker("t", "u")
    alter(
        image,
        of(BROKER, "", ("log.segment.bytes", "2000000", SET), ("log.roll.ms", "1", SET)),
        of(BROKER, "0", ("log.roll.ms", "2", SET), ("max.connections", "9", SET)),
        of(TOPIC, "t", ("segment.bytes", "3000000", SET)),
    )
    assert told_configs(image, "t", 0) == {"segment.bytes": "3000000", "segment.ms": "2"}
    assert told_configs(image, "u", 0) == {"segment.bytes": "2000000", "segment.ms": "2"}
    assert told_configs(image, "u", 1) == {"segment.bytes": "2000000", "segment.ms": "1"}
    alter(image, of(BROKER, "0", ("log.roll.ms", None, DELETE)))
    assert told_configs(image, "u", 0)["segment.ms"] == "1"


def test_logs_are_told_how_long_producers_are_remembered_which_is_no_key_of_a_topic() -> None:
    image, static = one_broker("t"), load({"producer.id.expiration.ms": "7"})[0]
    assert log_config(told_configs(image, "t", 0), static).producer_id_expiration_ms == 7
    alter(image, of(BROKER, "", ("producer.id.expiration.ms", "60000", SET)))
    assert log_config(told_configs(image, "t", 0), static).producer_id_expiration_ms == 60_000


def test_what_is_told_does_not_change_under_whoever_was_told() -> None:
    image = one_broker("t")
    alter(image, of(TOPIC, "t", ("segment.ms", "5", SET)))
    told = told_configs(image, "t", 0)
    alter(image, of(TOPIC, "t", ("segment.ms", "6", SET)))
    assert told == {"segment.ms": "5"}


def test_a_groups_heartbeats_must_fit_into_its_session() -> None:
    config = load(
        {"group.consumer.min.session.timeout.ms": "5000", "group.consumer.max.heartbeat.interval.ms": "60000"}
    )[0]
    change = of(
        GROUP,
        "g",
        ("consumer.session.timeout.ms", "10000", SET),
        ("consumer.heartbeat.interval.ms", "10000", SET),
    )
    (result,) = alter_configs(MetadataImage(), [change], config, 0, replaces_all=False).results
    assert result.error_code == errors.INVALID_CONFIG
    assert result.error_message == (
        "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms"
    )
