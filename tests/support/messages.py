"""Every message that is declared, and random values of them, from a seed."""

import re
from importlib import import_module
from pkgutil import iter_modules
from random import Random
from typing import Any

from msgspec import Struct

from tailrace.core.groups import consumer_protocol, records
from tailrace.core.protocol import messages
from tailrace.core.protocol.schema import FACTS, Field, fields_of

_RANGES = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
}
_TEXTS = ("", "a", "topic-1", "grün", "日本", "x" * 126, "x" * 127, "y" * 128, "z" * 300)
_LENGTHS = (0, 1, 2, 3, 9)


def requests_and_responses() -> list[type[Struct]]:
    """Every message of the protocol that is declared, whether it is served already or not."""
    for module in iter_modules(messages.__path__):
        import_module(f"{messages.__name__}.{module.name}")
    return _declared_in(f"{messages.__name__}.")


def group_records() -> list[type[Struct]]:
    """Every key and value of __consumer_offsets."""
    return _declared_in(records.__name__)


def consumer_messages() -> list[type[Struct]]:
    """What the members of a classic group of consumers say to each other."""
    return _declared_in(consumer_protocol.__name__)


def all_messages() -> list[tuple[type[Struct], int]]:
    """All of these with every version they have."""
    return versions_of([*requests_and_responses(), *group_records(), *consumer_messages()])


def versions_of(classes: list[type[Struct]]) -> list[tuple[type[Struct], int]]:
    """The classes with every version they have."""
    return [(cls, version) for cls in classes for version in range(FACTS[cls].first, FACTS[cls].last + 1)]


def _declared_in(module: str) -> list[type[Struct]]:
    return sorted((cls for cls in FACTS if cls.__module__.startswith(module)), key=lambda cls: cls.__name__)


def version_id(value: object) -> str:
    """The name of a test's parameter."""
    return value.__name__ if isinstance(value, type) else str(value)


def snake_case(name: str) -> str:
    """TopicId -> topic_id."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def random_message(cls: type[Struct], version: int, random: Random) -> Any:
    """A message of which every field the version carries is random; nulls and absent tags included."""
    values = {
        field.name: _value(field, version, random) for field in fields_of(cls) if field.in_version(version)
    }
    return cls(**values)


def _value(field: Field, version: int, random: Random) -> Any:
    if field.tag >= 0 and random.random() < 0.5:
        return field.default
    if field.null_since <= version and random.random() < 0.2:
        return None
    if field.kind in _RANGES:
        low, high = _RANGES[field.kind]
        return random.choice((low, high, 0, -1 if low else 1, random.randint(low, high)))
    if field.kind == "bool":
        return random.random() < 0.5
    if field.kind == "uuid":
        return random.randbytes(16)
    if field.kind == "string":
        return random.choice(_TEXTS)
    if field.kind == "struct":
        assert field.struct is not None
        value = random_message(field.struct, version, random)
        return None if field.tag >= 0 and field.default is None and value == field.struct() else value
    if field.kind == "array":
        assert field.item is not None
        item = field.item
        return [_value(item, version, random) for _ in range(random.choice(_LENGTHS))]
    return random.randbytes(random.choice((0, 1, 126, 127, 128, 20000)))
