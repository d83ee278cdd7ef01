"""What DescribeConfigs says of every key: its value, where that comes from, and what would count otherwise.

The sources, their order and what is left out of the synonyms are Kafka's. A topic key's value may come from
a second broker key (`segment.ms` from `log.roll.hours`): Kafka calls that a default without synonyms.
"""

from collections.abc import Mapping, Sequence

import msgspec

from tailrace.core.config import BrokerConfig, topic_defaults, validate_topic_configs
from tailrace.core.config_dynamic import KAFKA_DYNAMIC, RATES, kind_of
from tailrace.core.config_groups import GROUP_CONFIGS, broker_key_of
from tailrace.core.config_keys import (
    BROKER_KEYS,
    PASSWORD,
    TOPIC_KEYS,
    TOPIC_SYNONYMS,
    Key,
    Value,
    parse_value,
    value_text,
)

TOPIC_SOURCE = 1
DYNAMIC_BROKER_SOURCE = 2
DYNAMIC_DEFAULT_SOURCE = 3
STATIC_SOURCE = 4
DEFAULT_SOURCE = 5
GROUP_SOURCE = 8

UNKNOWN_KIND = ""
_UNUSED_DOC = "accepted, and without effect here"

# Broker keys that stand for one setting; of flush.ms only the first name brings the second with it.
_FAMILIES: dict[str, tuple[str, ...]] = {}
for _synonyms in TOPIC_SYNONYMS.values():
    _names = tuple(name for name, _ in _synonyms)
    for _name in _names if _names[0] != "log.flush.interval.ms" else _names[:1]:
        _FAMILIES[_name] = _names


class Synonym(msgspec.Struct, frozen=True):
    """A place that sets a value."""

    name: str
    value: str | None
    source: int


class ConfigEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One key of one resource."""

    name: str
    value: str | None
    source: int
    kind: str
    is_read_only: bool = False
    is_sensitive: bool = False
    synonyms: Sequence[Synonym] = ()  # what counts first
    doc: str = ""


class BrokerConfigs:
    """The keys of one broker: given at its start, and altered since, for it (`own`) or for all (`of_all`)."""

    def __init__(self, static: BrokerConfig, own: Mapping[str, str], of_all: Mapping[str, str]) -> None:
        self.static = static
        self._of_all = of_all
        self._places: list[tuple[Mapping[str, str], int]] = [  # what counts first
            (own, DYNAMIC_BROKER_SOURCE),
            (of_all, DYNAMIC_DEFAULT_SOURCE),
            ({name: given.text for name, given in static.given.items()}, STATIC_SOURCE),
        ]
        dynamic = {**of_all, **own}
        self.effective = static.with_dynamic(dynamic) if dynamic else static

    def topic_entries(self, own: Mapping[str, str]) -> list[ConfigEntry]:
        """Every topic key by name, of a topic with these keys of its own; internal ones are told only to who
        sets them.
        """
        values = topic_defaults(self.effective) | validate_topic_configs(own)
        names = (name for name in TOPIC_KEYS if name in own or not name.startswith("internal."))
        return [self._topic_entry(name, values[name], name in own) for name in sorted(names)]

    def topic_value(self, name: str) -> tuple[str | None, int]:
        """What a topic that does not set a key has, and who said so, as CreateTopics answers it."""
        synonyms = TOPIC_SYNONYMS.get(name, ())
        for texts, source in self._places:
            for synonym, factor in synonyms:
                if synonym in texts:
                    value = parse_value(BROKER_KEYS[synonym], texts[synonym])
                    scaled = value * factor if factor != 1 and isinstance(value, int) else value
                    return value_text(scaled), source
        return value_text(TOPIC_KEYS[name].default), DEFAULT_SOURCE

    def broker_entries(self) -> list[ConfigEntry]:
        """Every key that is known, and those that were given, by name."""
        altered = {name for texts, _ in self._places for name in texts}
        return [self._broker_entry(name) for name in sorted({*BROKER_KEYS, *altered})]

    def cluster_entries(self) -> list[ConfigEntry]:
        """The keys that were altered for all brokers, by name."""
        entries: list[ConfigEntry] = []
        for name, text in sorted(self._of_all.items()):
            synonym = Synonym(name, text, DYNAMIC_DEFAULT_SOURCE)
            entries.append(
                ConfigEntry(
                    name=name,
                    value=text,
                    source=DYNAMIC_DEFAULT_SOURCE,
                    kind=_key_of(name).kind,
                    synonyms=(synonym,),
                    doc=_key_of(name).doc,
                )
            )
        return entries

    def group_entries(self, own: Mapping[str, str]) -> list[ConfigEntry]:
        """Every group config by name, of a group with these of its own."""
        entries: list[ConfigEntry] = []
        for name, key in sorted(GROUP_CONFIGS.items()):
            default = self.effective.get(broker_key_of(name))
            value = value_text(parse_value(key, own[name]) if name in own else default)
            synonyms = self._synonyms(broker_key_of(name))
            if name in own:
                synonyms = [Synonym(name, value, GROUP_SOURCE), *synonyms]
            entries.append(
                ConfigEntry(
                    name=name,
                    value=value,
                    source=synonyms[0].source,
                    kind=key.kind,
                    synonyms=synonyms,
                    doc=key.doc,
                )
            )
        return entries

    def _topic_entry(self, name: str, value: Value, is_own: bool) -> ConfigEntry:
        key, text = TOPIC_KEYS[name], value_text(value)
        synonyms = self._synonyms(TOPIC_SYNONYMS[name][0][0]) if name in TOPIC_SYNONYMS else []
        if is_own:
            synonyms = [Synonym(name, text, TOPIC_SOURCE), *synonyms]
        return ConfigEntry(
            name=name,
            value=text,
            source=synonyms[0].source if synonyms else DEFAULT_SOURCE,
            kind=key.kind,
            synonyms=synonyms,
            doc=key.doc,
        )

    def _broker_entry(self, name: str) -> ConfigEntry:
        key = BROKER_KEYS.get(name) or RATES.get(name)
        kind = kind_of(name) or UNKNOWN_KIND
        is_sensitive = kind in (PASSWORD, UNKNOWN_KIND)
        synonyms = self._synonyms(name)
        if is_sensitive:  # a secret is never shown
            value = None
            synonyms = [Synonym(synonym.name, None, synonym.source) for synonym in synonyms]
        elif key is None:
            value = self.static.given[name].text.strip()
        elif name in RATES:
            value = synonyms[0].value
        else:
            value = value_text(self.effective.get(name))
        return ConfigEntry(
            name=name,
            value=value,
            source=synonyms[0].source if synonyms else DEFAULT_SOURCE,
            kind=kind,
            is_read_only=name not in KAFKA_DYNAMIC and name not in RATES,
            is_sensitive=is_sensitive,
            synonyms=synonyms,
            doc=_UNUSED_DOC if key is None else key.doc,
        )

    def _synonyms(self, name: str) -> list[Synonym]:
        """The places that set a broker key or one of its family, as Kafka lists them: from the first that
        sets the key itself on.
        """
        family = _FAMILIES.get(name, (name,))
        found = [
            Synonym(member, texts[member], source)
            for texts, source in self._places
            for member in family
            if member in texts
        ]
        for member in family:
            default = value_text(BROKER_KEYS[member].default) if member in BROKER_KEYS else None
            if default is not None:
                found.append(Synonym(member, default, DEFAULT_SOURCE))
        while found and found[0].name != name:
            del found[0]
        return found


def _key_of(name: str) -> Key:
    return BROKER_KEYS.get(name) or RATES[name]
