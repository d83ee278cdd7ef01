"""What is said of keys beyond what is compared with Kafka's own answers (tests/compat)."""

from tailrace.core.config import load
from tailrace.core.config_entries import (
    DEFAULT_SOURCE,
    DYNAMIC_BROKER_SOURCE,
    DYNAMIC_DEFAULT_SOURCE,
    STATIC_SOURCE,
    TOPIC_SOURCE,
    BrokerConfigs,
    ConfigEntry,
)
from tailrace.core.config_keys import BROKER_KEYS, TOPIC_KEYS


def configs(
    own: dict[str, str] | None = None, of_all: dict[str, str] | None = None, **given: str
) -> BrokerConfigs:
    static, _ = load({name.replace("_", "."): text for name, text in given.items()})
    return BrokerConfigs(static, own or {}, of_all or {})


def entry(entries: list[ConfigEntry], name: str) -> ConfigEntry:
    (found,) = [entry for entry in entries if entry.name == name]
    return found


def test_secrets_and_what_nobody_knows_are_never_shown() -> None:
    told = configs(ssl_keystore_password="geheim", no_such_key="geheim", num_partitions="3")
    entries = told.broker_entries()
    assert "geheim" not in repr(entries)
    for name in ("ssl.keystore.password", "no.such.key"):
        secret = entry(entries, name)
        assert (secret.value, secret.is_sensitive, secret.source) == (None, True, STATIC_SOURCE)
    assert not entry(entries, "num.partitions").is_sensitive


def test_every_key_is_there_with_a_line_about_it() -> None:
    told = configs(num_io_threads="3")
    assert {found.name for found in told.broker_entries()} == {*BROKER_KEYS, "num.io.threads"}
    assert {found.name for found in told.topic_entries({})} == TOPIC_KEYS.keys() - {"internal.segment.bytes"}
    assert all(
        found.doc for found in (*told.broker_entries(), *told.topic_entries({}), *told.group_entries({}))
    )
    assert "internal.segment.bytes" in {
        found.name for found in told.topic_entries({"internal.segment.bytes": "9"})
    }


def test_only_what_kafka_alters_may_be_altered() -> None:
    entries = configs().broker_entries()
    assert not entry(entries, "log.segment.bytes").is_read_only
    assert entry(entries, "num.partitions").is_read_only
    assert entry(entries, "workers.max").is_read_only


def test_the_nearest_setting_counts() -> None:
    key = "log.segment.bytes"
    told = configs({key: "4000000"}, {key: "3000000"}, log_segment_bytes="2000000")
    found = entry(told.broker_entries(), key)
    assert (found.value, found.source) == ("4000000", DYNAMIC_BROKER_SOURCE)
    assert [(synonym.value, synonym.source) for synonym in found.synonyms] == [
        ("4000000", DYNAMIC_BROKER_SOURCE),
        ("3000000", DYNAMIC_DEFAULT_SOURCE),
        ("2000000", STATIC_SOURCE),
        ("1073741824", DEFAULT_SOURCE),
    ]
    assert told.topic_value("segment.bytes") == ("4000000", DYNAMIC_BROKER_SOURCE)
    topic = entry(told.topic_entries({"segment.bytes": " 5000000 "}), "segment.bytes")
    assert (topic.value, topic.source, topic.synonyms[0].name) == ("5000000", TOPIC_SOURCE, "segment.bytes")
    (of_all,) = told.cluster_entries()
    assert (of_all.value, of_all.source, len(of_all.synonyms)) == ("3000000", DYNAMIC_DEFAULT_SOURCE, 1)


def test_a_second_broker_key_gives_a_topic_its_value() -> None:
    """Kafka's sources: the creation of a topic names the broker's file, a description calls it a default."""
    told = configs(log_roll_hours="2")
    assert told.topic_value("segment.ms") == ("7200000", STATIC_SOURCE)
    found = entry(told.topic_entries({}), "segment.ms")
    assert (found.value, found.source, list(found.synonyms)) == ("7200000", DEFAULT_SOURCE, [])
    told = configs({}, {"log.roll.ms": "5"}, log_roll_hours="2")
    assert told.topic_value("segment.ms") == ("5", DYNAMIC_DEFAULT_SOURCE)
    found = entry(told.topic_entries({}), "segment.ms")
    assert (found.value, found.source) == ("5", DYNAMIC_DEFAULT_SOURCE)
    assert [synonym.name for synonym in found.synonyms] == ["log.roll.ms", "log.roll.hours", "log.roll.hours"]


def test_a_groups_own_configs_stay_readable_when_the_brokers_bounds_move() -> None:
    told = configs(group_consumer_max_session_timeout_ms="46000")
    found = entry(told.group_entries({"consumer.session.timeout.ms": "50000"}), "consumer.session.timeout.ms")
    assert found.value == "50000"
