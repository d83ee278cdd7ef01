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
    without_effect,
)
from tailrace.core.config_describe import HIDDEN, Entry, describe, describe_ignored
from tailrace.core.config_keys import (
    BROKER_KEYS,
    NOT_YET_OBEYED,
    OWN_DEFAULTS,
    OWN_KEYS,
    RACK_AWARE_SELECTOR,
    TOPIC_KEYS,
    value_text,
)
from tailrace.core.config_sources import COMMAND_LINE, DEFAULT, ENVIRONMENT, FILE
from tailrace.core.config_unused import MISSED_KEYS, UNUSED_KEYS


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
    assert {name: setting.source for name, setting in config.given.items()} == {
        "num.partitions": COMMAND_LINE,
        "fetch.max.bytes": ENVIRONMENT,
        "message.max.bytes": FILE,
    }
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
    assert not load({"authorizer.class.name": "", "security.inter.broker.protocol": "PLAINTEXT"})[1]


def test_keys_that_nothing_obeys_yet_are_named_to_whoever_sets_them() -> None:
    _, warnings = load({"log.retention.ms": "1", "log.cleanup.policy": "compact", "num.partitions": "2"})
    assert warnings == ["accepted and not obeyed yet: log.cleanup.policy, log.retention.ms (LIMITS.md)"]
    _, warnings = load({"flush.policy": "page", "log.retention.hours": "168"})
    assert not warnings, "as when nobody sets them"


def test_an_unknown_key_is_warned_about_with_the_nearest_known_one() -> None:
    _, warnings = load({"num.partitons": "3", "qqqqqqqqqqqqqqqqqqqqqqqq": "1"})
    assert warnings == [
        "unknown configuration num.partitons (in the properties file) is ignored; "
        "did you mean num.partitions?",
        "unknown configuration qqqqqqqqqqqqqqqqqqqqqqqq (in the properties file) is ignored",
    ]


def test_an_unknown_key_is_an_error_when_asked_for() -> None:
    known = {"num.network.threads": "8", "log.retention.hours": "1", "listener.name.x.a": "b"}
    load(known, {"KAFKA_OPTS": ""}, strict=True)
    with pytest.raises(ConfigError) as caught:
        load(known | {"num.partitons": "3"}, {"KAFKA_PORT": "tcp://10.0.0.1"}, strict=True)
    assert str(caught.value) == (
        "--strict: unknown configuration num.partitons (in the properties file); did you mean num.partitions?"
        ", unknown configuration port (variable KAFKA_PORT)"
    )


@pytest.mark.parametrize(
    ("file", "environ", "overrides", "place"),
    [
        ({"num.partitions": "x"}, {}, {}, "in the properties file"),
        ({}, {"KAFKA_NUM_PARTITIONS": "x"}, {}, "variable KAFKA_NUM_PARTITIONS"),
        ({}, {}, {"num.network.threads": "x"}, "on the command line"),
    ],
)
def test_a_refusal_says_where_the_value_comes_from(
    file: dict[str, str], environ: dict[str, str], overrides: dict[str, str], place: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(file, environ, overrides)
    assert str(caught.value).endswith(f" ({place})")


@pytest.mark.parametrize("value", ["a\nb", "a\0b", "\udcff"])
@pytest.mark.parametrize("name", ["cluster.id", "broker.rack", "log.dirs", "unix.socket.path"])
def test_text_that_no_answer_or_file_could_hold_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        load({name: value})
    assert str(caught.value).isprintable()


def test_a_controller_alone_is_refused() -> None:
    load({"process.roles": "broker,controller"})
    with pytest.raises(ConfigError, match=r"process\.roles lacks broker"):
        load({"process.roles": "controller"})
    with pytest.raises(ConfigError, match="String must be one of: broker, controller"):
        load({"process.roles": "broker,zookeeper"})


def test_our_own_keys_of_later_parts_are_named_to_whoever_sets_them() -> None:
    _, warnings = load({"http.listeners": "HTTP://:8080"})
    assert warnings == ["accepted and not obeyed yet: http.listeners (LIMITS.md)"]


def test_keys_of_kafkas_that_somebody_would_miss_are_named_unless_they_ask_for_nothing_else() -> None:
    defaults = {name: value_text(value) or "" for name, value in MISSED_KEYS.items()}
    assert load(defaults)[1] == []
    for name in MISSED_KEYS:
        other = "/d" if name == "cordoned.log.dirs" else "77"
        assert load({name: other})[1] == [f"accepted and not obeyed yet: {name} (LIMITS.md)"]


def test_every_key_is_described_once_with_its_source() -> None:
    config, _ = load({"broker.id": "7", "log.dir": "/a"}, {"KAFKA_NUM_PARTITIONS": "3"}, {"cluster.id": "c"})
    shown = {entry.key: entry for entry in describe(config)}
    ignored = {entry.key: entry for entry in describe_ignored(config)}
    assert not shown.keys() & ignored.keys()
    assert shown.keys() | ignored.keys() == BROKER_KEYS.keys() | UNUSED_KEYS.keys()
    assert shown["num.partitions"][:3] == ("num.partitions", "3", ENVIRONMENT)
    assert shown["cluster.id"][:3] == ("cluster.id", "c", COMMAND_LINE)
    assert shown["node.id"][:3] == ("node.id", "7", FILE)
    assert shown["log.dirs"][:3] == ("log.dirs", "/a", FILE)
    assert shown["listeners"][:3] == ("listeners", "PLAINTEXT://127.0.0.1:9092", DEFAULT)
    assert shown["auto.create.topics.enable"].value == "true"
    assert shown["advertised.mode"].value == "auto"
    assert shown["broker.rack"].value is None
    assert ignored.keys() >= NOT_YET_OBEYED


def test_keys_without_effect_that_are_given_come_first_and_secrets_are_hidden() -> None:
    jaas = "listener.name.x.plain.sasl.jaas.config"
    given = {jaas: "sesame", "ssl.key.password": "sesame", "num.io.threads": "9", "log.retention.hours": "1"}
    entries = describe_ignored(load(given)[0])
    assert [entry[:3] for entry in entries[:4]] == [
        (jaas, HIDDEN, FILE),
        ("log.retention.hours", "1", FILE),
        ("num.io.threads", "9", FILE),
        ("ssl.key.password", HIDDEN, FILE),
    ]
    assert Entry("background.threads", None, DEFAULT, "") in entries[4:]
    assert "sesame" not in str(entries)


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
    broker = of(max_decompressed_message_bytes="7", log_preallocate="true", compression_lz4_level="12")
    config = log_config({"internal.segment.bytes": "5000", "message.timestamp.type": "LogAppendTime"}, broker)
    assert (config.max_decompressed_message_bytes, config.preallocate) == (7, True)
    assert (config.compression_type, config.compression_lz4_level) == ("producer", 12)
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


@pytest.mark.parametrize(
    ("given", "idle"),
    [
        ({}, []),
        ({"segment.bytes": "1048576", "message.timestamp.type": "LogAppendTime"}, []),
        ({"cleanup.policy": "delete", "retention.ms": "604800000", "compression.type": "producer"}, []),
        ({"cleanup.policy": "", "retention.ms": "-1", "retention.bytes": "-1", "preallocate": "true"}, []),
        ({"cleanup.policy": "compact"}, ["cleanup.policy=compact"]),
        ({"cleanup.policy": " compact, delete "}, ["cleanup.policy=compact,delete"]),
        ({"retention.ms": "5", "delete.retention.ms": "1"}, ["retention.ms=5", "delete.retention.ms=1"]),
        ({"min.insync.replicas": "2"}, []),
        ({"min.cleanable.dirty.ratio": "0.50"}, []),
    ],
)
def test_topic_keys_that_ask_for_what_is_not_done_are_told_apart(
    given: dict[str, str], idle: list[str]
) -> None:
    assert without_effect(given) == idle


def test_the_only_replica_selector_is_the_one_by_rack() -> None:
    """Kafka loads any class of that name, and does not start without it."""
    assert of().replica_selector_class is None
    assert of(replica_selector_class=RACK_AWARE_SELECTOR).replica_selector_class == RACK_AWARE_SELECTOR
    with pytest.raises(ConfigError, match=r"replica\.selector\.class is org\.apache"):
        of(replica_selector_class="com.example.Mine")
