"""Our tables of keys against Kafka's own ConfigDef objects: types, defaults, bounds, synonyms, sentences."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from perf.peers.jars import MISSING, available, class_path
from tailrace.core.config_dynamic import KAFKA_DYNAMIC
from tailrace.core.config_keys import (
    BROKER_KEYS,
    OWN_DEFAULTS,
    OWN_KEYS,
    TOPIC_KEYS,
    TOPIC_SYNONYMS,
    ConfigError,
    Key,
    Value,
    parse_value,
)
from tailrace.core.config_unused import MISSED_KEYS, UNUSED_KEYS
from tests.support.peers import require

# Values that are wrong in some way for each type; Kafka and we must agree on every one.
SUSPECTS = [
    *(
        "",
        " ",
        "x",
        "0",
        "-1",
        "-2",
        "+1",
        "1_0",
        "1.5",
        "18",
        "NaN",
        "1e2",
        "2147483648",
        "9223372036854775808",
    ),
    *(
        "true",
        "TRUE",
        "yes",
        "a,b",
        "delete,compact",
        "delete,delete",
        "delete,",
        "CreateTime",
        "gzip",
        " lz4 ",
    ),
]

# Numbers that Java shows in another form than Python does.
JAVA_ONLY = {(text, "DOUBLE") for text in ("1e2", "NaN", "2147483648", "9223372036854775808")}

PROGRAM = """
import java.util.*;
import org.apache.kafka.common.config.*;
public class Keys {
  static String quote(Object o) {
    if (o == null) return "null";
    String text = String.valueOf(o).replace("\\\\", "\\\\\\\\").replace("\\"", "\\\\\\"");
    return '"' + text.replace("\\n", "\\\\n") + '"';
  }
  static String pair(String name, Object value) { return quote(name) + ":" + quote(value); }
  static void show(String table, ConfigDef def, String[] suspects) {
    for (ConfigDef.ConfigKey key : def.configKeys().values()) {
      List<String> tried = new ArrayList<>();
      for (String suspect : suspects) {
        String sentence = null;
        try {
          Object value = ConfigDef.parseType(key.name, suspect, key.type);
          if (key.validator != null) key.validator.ensureValid(key.name, value);
        } catch (ConfigException e) { sentence = e.getMessage(); }
        tried.add(pair(suspect, sentence));
      }
      Object value = key.hasDefault() ? key.defaultValue : "REQUIRED";
      System.out.println("{" + String.join(",",
        pair("table", table), pair("name", key.name), pair("kind", key.type), pair("default", value),
        quote("tried") + ":{" + String.join(",", tried) + "}") + "}");
    }
  }
  public static void main(String[] suspects) {
    show("topic", org.apache.kafka.storage.internals.log.LogConfig.configDefCopy(), suspects);
    show("broker", kafka.server.KafkaConfig.configDef(), suspects);
    var all = org.apache.kafka.server.config.ServerTopicConfigSynonyms.ALL_TOPIC_CONFIG_SYNONYMS;
    for (String name : org.apache.kafka.server.config.DynamicBrokerConfig.ALL_DYNAMIC_CONFIGS)
      System.out.println("{" + String.join(",", pair("table", "dynamic"), pair("name", name)) + "}");
    all.forEach((name, synonyms) -> {
      List<String> names = new ArrayList<>();
      synonyms.forEach(synonym -> names.add(synonym.name()));
      System.out.println("{" + String.join(",", pair("table", "synonyms"), pair("name", name),
        pair("names", String.join(",", names))) + "}");
    });
  }
}
"""


@cache
def described(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Every key as Kafka itself describes it."""
    require(None if available() else MISSING)
    source = folder / "Keys.java"
    source.write_text(PROGRAM)
    command = ["java", "-cp", class_path(), str(source), *SUSPECTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    return {(entry["table"], entry["name"]): entry for entry in entries}


@pytest.fixture
def kafka(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """Every key as Kafka itself describes it."""
    return described(tmp_path_factory.getbasetemp())


TABLES = [
    *(("broker", key) for key in BROKER_KEYS.values() if key.name not in OWN_KEYS),
    *(("topic", key) for key in TOPIC_KEYS.values()),
]


def as_java_prints(value: Value) -> str | None:
    """A default of ours as Java's String.valueOf would show it."""
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)


def sentence(key: Key, text: str) -> str | None:
    """What we say of a value, None if we take it."""
    try:
        parse_value(key, text)
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("table", "key"), TABLES, ids=[f"{table}-{key.name}" for table, key in TABLES])
def test_a_key_is_as_kafka_has_it(table: str, key: Key, kafka: dict[tuple[str, str], dict[str, Any]]) -> None:
    theirs = kafka[table, key.name]
    assert key.kind == theirs["kind"]
    if key.name not in OWN_DEFAULTS or table == "topic":
        assert as_java_prints(key.default) == theirs["default"]
    for text, said in theirs["tried"].items():
        if (text, key.kind) in JAVA_ONLY or key.name in (
            "internal.segment.bytes",
            "listener.security.protocol.map",
        ):
            continue
        ours = sentence(key, text)
        assert ours == said, f"{key.name}={text!r}"


def test_every_broker_key_of_kafka_is_known(kafka: dict[tuple[str, str], dict[str, Any]]) -> None:
    theirs = {name: entry["kind"] for (table, name), entry in kafka.items() if table == "broker"}
    ours = {**UNUSED_KEYS, **{name: key.kind for name, key in BROKER_KEYS.items()}}
    assert {name: kind for name, kind in theirs.items() if ours.get(name) != kind} == {}


def test_a_key_that_is_missed_is_missed_above_kafkas_default(
    kafka: dict[tuple[str, str], dict[str, Any]],
) -> None:
    theirs = {name: kafka["broker", name]["default"] for name in MISSED_KEYS}
    assert {name: as_java_prints(value) for name, value in MISSED_KEYS.items()} == theirs


def test_every_topic_key_of_kafka_is_known(kafka: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert {name for table, name in kafka if table == "topic"} == TOPIC_KEYS.keys()


def test_topic_keys_inherit_from_the_broker_keys_kafka_says(
    kafka: dict[tuple[str, str], dict[str, Any]],
) -> None:
    theirs = {name: entry["names"] for (table, name), entry in kafka.items() if table == "synonyms"}
    ours = {name: ",".join(broker for broker, _ in synonyms) for name, synonyms in TOPIC_SYNONYMS.items()}
    assert ours == theirs


def test_broker_keys_are_called_dynamic_that_kafka_alters(
    kafka: dict[tuple[str, str], dict[str, Any]],
) -> None:
    known = {*BROKER_KEYS, *UNUSED_KEYS}
    theirs = {name for table, name in kafka if table == "dynamic"}
    assert theirs & known == KAFKA_DYNAMIC
    # Quotas between brokers, which are no keys of a broker's file.
    assert {
        name for name in theirs - known if not name.endswith((".throttled.rate", "bytes.per.second"))
    } == set()
