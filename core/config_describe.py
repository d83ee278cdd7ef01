"""What a configuration says, key by key: for `tailrace config describe`.

A secret is never shown, and neither is the value of a key whose tail is free: nobody knows what that is.
"""

from typing import NamedTuple

from tailrace.core.config import BrokerConfig
from tailrace.core.config_keys import BROKER_KEYS, NOT_YET_OBEYED, PASSWORD, value_text
from tailrace.core.config_sources import DEFAULT, Given
from tailrace.core.config_unused import UNUSED_KEYS, UNUSED_PREFIXES

HIDDEN = "[hidden]"


class Entry(NamedTuple):
    """One key: its value as a properties file has it, None when it is not set; who gave it; what it is."""

    key: str
    value: str | None
    source: str
    doc: str


def describe(config: BrokerConfig) -> list[Entry]:
    """Every key that is obeyed, by name."""
    return [_obeyed(config, name) for name in sorted(BROKER_KEYS.keys() - NOT_YET_OBEYED)]


def describe_ignored(config: BrokerConfig) -> list[Entry]:
    """Every key that is accepted and has no effect: first those that are given, each part by name."""
    entries = [_obeyed(config, name) for name in NOT_YET_OBEYED]
    names = {*UNUSED_KEYS, *(name for name in config.given if name.startswith(UNUSED_PREFIXES))}
    entries += [_unused(name, config.given.get(name)) for name in names]
    return sorted(entries, key=lambda entry: (entry.source == DEFAULT, entry.key))


def _obeyed(config: BrokerConfig, name: str) -> Entry:
    source = config.given[name].source if name in config.given else DEFAULT
    return Entry(name, value_text(config.get(name)), source, BROKER_KEYS[name].doc)


def _unused(name: str, given: Given | None) -> Entry:
    if given is None:
        return Entry(name, None, DEFAULT, "")
    is_secret = UNUSED_KEYS.get(name, PASSWORD) == PASSWORD
    return Entry(name, HIDDEN if is_secret else given.text.strip(), given.source, "")
