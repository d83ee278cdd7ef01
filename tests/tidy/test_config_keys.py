"""A key that is said to be obeyed is read somewhere, and one that is said not to be is read nowhere."""

import re
from fnmatch import fnmatchcase

from tailrace.core.config import OBEYED_TOPIC_KEYS
from tailrace.core.config_keys import BROKER_KEYS, NOT_YET_OBEYED, TOPIC_KEYS, TOPIC_SYNONYMS
from tailrace.core.log.log_config import LogConfig
from tests.tidy.sources import ROOT, sources

# Read while the configuration is made; what they change is read under another name.
MAKE_OTHERS = {
    "broker.id",
    "broker.rack",
    "controller.listener.names",
    "listener.security.protocol.map",
    "log.dir",
}
FILES_OF_THE_KEYS = ("core/config", "core/listeners.py")


def is_read(name: str, text: str) -> bool:
    """Whether the sources read a key: its attribute, its name, or what the log calls its topic key."""
    if f".{name.replace('.', '_')}" in text or f'"{name}"' in text:
        return True
    topics = [name, *(topic for topic, synonyms in TOPIC_SYNONYMS.items() if name in dict(synonyms))]
    return any(topic.replace(".", "_") in LogConfig.__struct_fields__ for topic in topics)


def test_every_key_is_obeyed_or_said_not_to_be() -> None:
    layers = ("core", "workers", "shm")
    texts = [
        source.text
        for source in sources()
        if source.layer in layers and not source.path.startswith(FILES_OF_THE_KEYS)
    ]
    text = "\n".join(texts)
    read = {name for name in BROKER_KEYS if is_read(name, text)} | MAKE_OTHERS
    assert BROKER_KEYS.keys() - NOT_YET_OBEYED - read == set()
    assert NOT_YET_OBEYED & read == set()


def test_a_topic_key_is_obeyed_exactly_when_its_broker_keys_are() -> None:
    for topic, synonyms in TOPIC_SYNONYMS.items():
        assert {name not in NOT_YET_OBEYED for name, _ in synonyms} == {topic in OBEYED_TOPIC_KEYS}, topic


def test_limits_names_every_topic_key_that_is_not_obeyed() -> None:
    (line,) = re.findall(
        r"^\* Topic configs not obeyed: (.+?)\.\n(?! )", (ROOT / "LIMITS.md").read_text(), re.S | re.M
    )
    named = re.findall("`(.+?)`", line)
    matched = {key for key in TOPIC_KEYS if any(fnmatchcase(key, name) for name in named)}
    assert matched == TOPIC_KEYS.keys() - OBEYED_TOPIC_KEYS
