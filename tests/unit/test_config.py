"""The configuration: types, bounds, precedence, what must agree, what a topic inherits."""

import pytest

from tailrace.core.config import (
    BrokerConfig,
    ConfigError,
    effective_topic_config,
    load,
    log_config,
    topic_defaults,
    validate_topic_config,
    validate_topic_configs,
)
from tailrace.core.config_keys import BROKER_KEYS, OWN_DEFAULTS, OWN_KEYS, TOPIC_KEYS
from tailrace.core.config_unused import UNUSED_KEYS


def of(**settings: str) -> BrokerConfig:
    """A configuration of these keys, dots written as underscores."""
    return load({name.replace("_", "."): value for name, value in settings.items()})[0]


def test_defaults_serve_on_loopback_and_advertise_the_clients_way() -> None:
    config = of()
    assert config.listeners == (("PLAINTEXT", "127.0.0.1", 9092),)
    assert config.advertised_mode == "auto"
    assert config.advertised_listeners == ()
    assert config.log_dirs == ()
    assert config.unix_socket_path is None
    assert config.unix_socket_mode == 0o600
    assert config.num_partitions == 1
    assert config.auto_create_topics_enable is True
    assert config.message_max_bytes == 1048588


def test_later_sources_win() -> None:
    file = {"num.partitions": "2", "fetch.max.bytes": "2000", "message.max.bytes": "7"}
    environ = {"KAFKA_NUM_PARTITIONS": "3", "KAFKA_FETCH_MAX_BYTES": "3000"}
    config, warnings = load(file, environ, {"num.partitions": "4"})
    assert (config.num_partitions, config.fetch_max_bytes, config.message_max_bytes) == (4, 3000, 7)
    assert config.set_keys == {"num.partitions", "fetch.max.bytes", "message.max.bytes"}
    assert not warnings


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("num.partitions", "x", "Not a number of type INT"),
        ("num.partitions", "1_000", "Not a number of type INT"),
        ("num.partitions", "", "Not a number of type INT"),
        ("num.partitions", "2147483648", "Not a number of type INT"),
        ("num.partitions", "0", "Value must be at least 1"),
        ("log.flush.interval.messages", "9223372036854775808", "Not a number of type LONG"),
        ("auto.create.topics.enable", "yes", "Expected value to be either true or false"),
        ("log.cleanup.policy", "shred", "String must be one of: compact, delete"),
        ("log.cleanup.policy", "delete,delete", "values must not be duplicated."),
        ("log.cleaner.min.cleanable.ratio", "1.5", "Value must be no more than 1"),
        ("log.cleaner.min.cleanable.ratio", "NaN", "Value must be at least 0"),
        ("compression.gzip.level", "0", "Value must be between 1 and 9 or equal to -1"),
        ("num.network.threads", "many", "Not a number of type INT"),
        ("unix.socket.mode", "rw", "permissions in octal"),
        ("flush.policy", "never", "String must be one of: page, group, each"),
        ("num.partitions", "1\n2", "Not a number of type INT"),
    ],
)
def test_an_ill_typed_value_is_refused_in_one_line_that_names_the_key(
    name: str, value: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load({name: value})
    assert words in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_ill_typed_value_is_not_repeated_whole() -> None:
    with pytest.raises(ConfigError) as caught:
        load({"num.partitions": "x" * 100_000})
    assert len(str(caught.value)) < 300


def test_numbers_may_have_a_sign_and_space_around_as_in_java() -> None:
    assert of(num_partitions=" +3 ").num_partitions == 3
    assert of(log_retention_bytes="-1").get("log.retention.bytes") == -1


def test_gzip_level_may_be_the_codecs_default() -> None:
    assert of(compression_gzip_level="-1").get("compression.gzip.level") == -1


def test_keys_that_kafka_knows_and_we_do_not_use_pass_without_a_word() -> None:
    _, warnings = load({"num.network.threads": "8", "listener.name.x.ssl.keystore.location": "/k"})
    assert not warnings


def test_a_key_that_should_protect_and_does_not_is_warned_about() -> None:
    _, warnings = load({"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer"})
    assert len(warnings) == 1
    assert "authorizer.class.name" in warnings[0]


def test_keys_that_nothing_obeys_yet_are_named_to_whoever_sets_them() -> None:
    _, warnings = load({"log.flush.interval.messages": "1", "flush.policy": "each", "num.partitions": "2"})
    assert warnings == ["accepted and not obeyed yet: flush.policy, log.flush.interval.messages (LIMITS.md)"]


def test_an_unknown_key_is_warned_about_with_the_nearest_known_one() -> None:
    _, warnings = load({"num.partitons": "3", "qqqqqqqqqqqqqqqqqqqqqqqq": "1"})
    assert warnings == [
        "unknown configuration num.partitons is ignored; did you mean num.partitions?",
        "unknown configuration qqqqqqqqqqqqqqqqqqqqqqqq is ignored",
    ]


def test_no_key_is_both_obeyed_and_unused() -> None:
    assert not BROKER_KEYS.keys() & UNUSED_KEYS.keys()
    assert BROKER_KEYS.keys() >= OWN_KEYS
    assert BROKER_KEYS.keys() >= OWN_DEFAULTS.keys()


def test_every_key_says_what_it_is_and_has_a_default_of_its_type() -> None:
    python = {"INT": int, "SHORT": int, "LONG": int, "DOUBLE": float, "BOOLEAN": bool, "STRING": str}
    for key in (*BROKER_KEYS.values(), *TOPIC_KEYS.values()):
        assert key.doc, key.name
        if key.default is not None:
            assert type(key.default) is python.get(key.kind, tuple), key.name


def test_broker_id_is_an_older_name_of_node_id() -> None:
    assert of(broker_id="7").node_id == 7
    with pytest.raises(ConfigError, match=r"node\.id"):
        of(broker_id="7", node_id="8")


def test_log_dirs_beats_log_dir() -> None:
    assert of(log_dir="/a").log_dirs == ("/a",)
    assert of(log_dir="/a", log_dirs="/b, /c").log_dirs == ("/b", "/c")
    with pytest.raises(ConfigError, match=r"log\.dirs"):
        of(log_dirs="")


def test_requests_that_may_never_be_held_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"queued\.max\.request\.bytes"):
        of(queued_max_request_bytes="10")


def test_a_unix_path_that_no_socket_can_have_is_refused() -> None:
    assert of(unix_socket_path="").unix_socket_path == ""
    assert of(unix_socket_path="/" + "x" * 106).unix_socket_path == "/" + "x" * 106
    with pytest.raises(ConfigError, match="107 bytes"):
        of(unix_socket_path="/" + "é" * 60)


def test_topic_defaults_come_from_the_first_broker_key_that_is_set() -> None:
    assert topic_defaults(of())["retention.ms"] == 168 * 3_600_000
    assert topic_defaults(of(log_retention_hours="1"))["retention.ms"] == 3_600_000
    assert topic_defaults(of(log_retention_hours="1", log_retention_minutes="2"))["retention.ms"] == 120_000
    assert topic_defaults(of(log_retention_minutes="2", log_retention_ms="5"))["retention.ms"] == 5
    assert topic_defaults(of(log_retention_hours="-1"))["retention.ms"] == -1
    assert topic_defaults(of(log_roll_hours="2"))["segment.ms"] == 7_200_000
    assert topic_defaults(of(message_max_bytes="99"))["max.message.bytes"] == 99
    assert topic_defaults(of(log_flush_scheduler_interval_ms="4"))["flush.ms"] == 4


@pytest.mark.parametrize(
    "name", ["log.retention.ms", "log.retention.minutes", "log.retention.hours", "log.roll.ms"]
)
def test_times_that_would_remove_everything_at_once_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        load({name: "0"})


def test_a_topics_own_keys_win() -> None:
    values = effective_topic_config({"segment.bytes": "1048576", "cleanup.policy": "compact,delete"}, of())
    assert values["segment.bytes"] == 1048576
    assert values["cleanup.policy"] == ("compact", "delete")
    assert values.keys() == TOPIC_KEYS.keys()


def test_the_log_is_told_in_its_own_words() -> None:
    config = log_config({"internal.segment.bytes": "5000", "message.timestamp.type": "LogAppendTime"}, of())
    assert config.segment_bytes == 5000
    assert config.message_timestamp_type == "LogAppendTime"
    assert config.max_message_bytes == 1048588


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("nope", "1", "Unknown topic config name: nope"),
        (
            "segment.bytes",
            "1",
            "Invalid value 1 for configuration segment.bytes: Value must be at least 1048576",
        ),
        (
            "retention.ms",
            "abc",
            "Invalid value abc for configuration retention.ms: Not a number of type LONG",
        ),
        ("remote.storage.enable", "true", "Tiered Storage functionality is disabled in the broker."),
    ],
)
def test_a_bad_topic_key_is_refused_in_kafkas_words(name: str, value: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_topic_config(name, value)
    assert str(caught.value).startswith(sentence)


def test_compaction_lags_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="conflict topic config setting"):
        validate_topic_configs({"min.compaction.lag.ms": "10", "max.compaction.lag.ms": "5"})
