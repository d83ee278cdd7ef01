"""server.properties in Java's syntax, and KAFKA_* variables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.config import ConfigError, load
from tailrace.core.config_sources import decode_properties, environment_properties, parse_properties


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b", {"a": "b"}),
        ("a:b", {"a": "b"}),
        ("a b", {"a": "b"}),
        ("  a \t=  b  ", {"a": "b  "}),
        ("a = = b", {"a": "= b"}),
        ("a", {"a": ""}),
        ("a=", {"a": ""}),
        ("# c\n! d\n\n  # e\na=1#x", {"a": "1#x"}),
        ("a=1\r\nb=2\rc=3\n", {"a": "1", "b": "2", "c": "3"}),
        ("a=1,\\\n   2,\\\n\t3", {"a": "1,2,3"}),
        ("a=1\\\\\nb=2", {"a": "1\\", "b": "2"}),
        ("a=x\\\n# not a comment", {"a": "x# not a comment"}),
        ("a=x\\", {"a": "x"}),
        ("a\\=b\\:c\\ d=e", {"a=b:c d": "e"}),
        ("a=\\t\\n\\r\\f\\q\\\\", {"a": "\t\n\r\fq\\"}),
        ("a=\\u0041\\u00e9", {"a": "Aé"}),
        ("a=\\uD83D\\uDE00", {"a": "😀"}),
        ("a=1\na=2", {"a": "2"}),
        ("log.dirs=C\\:\\\\x", {"log.dirs": "C:\\x"}),
    ],
)
def test_properties_are_read_as_java_reads_them(text: str, expected: dict[str, str]) -> None:
    assert parse_properties(text) == expected


@pytest.mark.parametrize("text", ["a=\\u12", "a=\\uxyzw"])
def test_a_malformed_escape_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="escape"):
        parse_properties(text)


@given(st.text())
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        parse_properties(text)
    except ConfigError as error:
        assert "\n" not in str(error).replace(text, "")  # noqa: PT017 - a refusal is one of two right answers


def test_variables_become_keys_as_in_kafkas_container_image() -> None:
    environ = {
        "KAFKA_NUM_PARTITIONS": "3",
        "KAFKA_LISTENER_NAME_A__B_X___Y": "z",
        "KAFKA_HEAP_OPTS": "-Xmx1G",
        "KAFKA_OPTS": "",
        "KAFKA_LOG4J_LOGGERS": "kafka=DEBUG",
        "KAFKA_": "x",
        "CLUSTER_ID": "abc",
        "HOME": "/",
    }
    given = environment_properties(environ)
    assert {name: setting.text for name, setting in given.items()} == {
        "num.partitions": "3",
        "listener.name.a_b.x-y": "z",
        "cluster.id": "abc",
    }


def test_an_empty_cluster_id_is_none() -> None:
    assert load({}, {"CLUSTER_ID": ""})[0].cluster_id is None
    assert load({"cluster.id": ""})[0].cluster_id is None


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", ""),
        ("a=é\r\n".encode(), "a=é\r\n"),
        (b"\xef\xbb\xbfa=1", "a=1"),
        ("a=é".encode("latin-1"), "a=é"),
    ],
)
def test_a_file_is_utf_8_or_latin_1(raw: bytes, text: str) -> None:
    assert decode_properties(raw) == text


@pytest.mark.parametrize(("raw", "words"), [("a=1".encode("utf-16"), "UTF-16"), (b"\x7fELF\0", "no text")])
def test_a_file_that_is_no_such_text_is_refused(raw: bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        decode_properties(raw)


def test_an_advertised_address_alone_in_the_environment_listens_everywhere() -> None:
    config, _ = load({}, {"KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://kafka.example:9094"})
    assert config.listeners == (("PLAINTEXT", "0.0.0.0", 9094),)
    assert config.advertised_listeners == (("PLAINTEXT", "kafka.example", 9094),)
    assert config.advertised_mode == "fixed"


def test_listeners_of_the_file_are_kept_beside_an_advertised_address_of_the_environment() -> None:
    file = {"listeners": "PLAINTEXT://127.0.0.1:7"}
    config, _ = load(file, {"KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://kafka.example:9094"})
    assert config.listeners == (("PLAINTEXT", "127.0.0.1", 7),)
