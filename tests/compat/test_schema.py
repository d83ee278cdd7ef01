"""Our declarations against Kafka's own, field by field and version by version.

The definitions are read from the jars of the Java peer; no file of Kafka's is kept here.
"""

import json
import re
from os import environ
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from msgspec import Struct

from tailrace.core.groups.records import TYPES
from tailrace.core.protocol.apis import DECLARED, PRODUCE
from tailrace.core.protocol.schema import FACTS, NEWEST, Field, fields_of
from tests.support.messages import (
    consumer_messages,
    group_records,
    requests_and_responses,
    snake_case,
    version_id,
)

PEERS = Path(environ.get("TAILRACE_PEERS", Path(__file__).resolve().parents[2] / ".peers" / "jars"))
CLIENTS = "kafka-clients-4.3.1.jar"
GROUP_COORDINATOR = "kafka-group-coordinator-4.3.1.jar"

Json = dict[str, Any]

# versions that Kafka defines but that are not stable: not declared, not advertised
UNSTABLE_SINCE = {"InitProducerIdRequest": 6, "InitProducerIdResponse": 6}


@pytest.fixture(scope="module")
def jars() -> Path:
    """The folder of the jars with the definitions."""
    for folder in (PEERS, PEERS / "jars"):
        if (folder / CLIENTS).exists():
            return folder
    pytest.skip(f"no {CLIENTS} in .peers/jars: fetch the Java peer, or set TAILRACE_PEERS to its folder")


def definition(jars: Path, name: str, jar: str = CLIENTS) -> Json:
    """Kafka's definition of a message; its comments are whole lines."""
    with ZipFile(jars / jar) as archive:
        text = archive.read(f"common/message/{name}.json").decode()
    found: Json = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    return found


def versions(text: str) -> tuple[int, int]:
    """The inclusive range that Kafka writes as `3`, `3-5`, `3+` or `none`."""
    if text == "none":
        return NEWEST + 1, NEWEST
    if text.endswith("+"):
        return int(text[:-1]), NEWEST
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def within(text: str, version: int) -> bool:
    """Whether the range contains the version."""
    first, last = versions(text)
    return first <= version <= last


def default_of(theirs: Json, fields: list[Json] | None) -> Any:
    """The default that Kafka's generated classes give the field."""
    given, type_ = theirs.get("default"), theirs["type"]
    if given == "null":
        return None
    if type_.startswith("[]"):
        return []
    if type_ == "bool":
        return given in ("true", True)
    if type_ == "uuid":
        return bytes(16)
    if type_ == "string":
        return given or ""
    if type_ == "records":
        return None
    if fields is not None:
        return "a struct"
    if type_ == "bytes":
        return b""
    return int(str(given or 0), 0)


def compare(path: str, ours: Field, theirs: Json, common: dict[str, list[Json]], version: int) -> list[str]:
    """What differs between our field and Kafka's in one version."""
    differences: list[str] = []

    def same(what: str, our_fact: object, their_fact: object) -> None:
        if our_fact != their_fact:
            differences.append(f"{path} v{version}: {what} is {our_fact!r} here, {their_fact!r} in Kafka")

    type_: str = theirs["type"]
    element = type_.removeprefix("[]")
    parts = theirs.get("fields") or common.get(element)
    tagged = within(theirs.get("taggedVersions", "none"), version)
    same("tag", ours.tag, theirs["tag"] if tagged else -1)
    same("nullable", ours.null_since <= version, within(theirs.get("nullableVersions", "none"), version))
    same("array", ours.kind == "array", type_.startswith("[]"))
    single = ours.item if ours.item is not None else ours
    same("type", single.kind, "struct" if parts is not None else element)
    if parts is not None and single.struct is not None:
        differences += compare_fields(path, single.struct, parts, common, version)
    return differences


def compare_fields(
    path: str, cls: type[Struct], theirs: list[Json], common: dict[str, list[Json]], version: int
) -> list[str]:
    """What differs between the fields of our class and Kafka's in one version."""
    ours = [field for field in fields_of(cls) if field.in_version(version)]
    present = [field for field in theirs if within(field["versions"], version)]
    our_names, their_names = [field.name for field in ours], [snake_case(field["name"]) for field in present]
    if our_names != their_names:
        return [f"{path} v{version}: fields {our_names} here, {their_names} in Kafka"]
    return [
        difference
        for ours_, theirs_ in zip(ours, present, strict=True)
        for difference in compare(f"{path}.{ours_.name}", ours_, theirs_, common, version)
    ]


def compare_absence(
    cls: type[Struct], theirs: list[Json], common: dict[str, list[Json]], declared: list[int]
) -> list[str]:
    """What differs in versions that lack a field: its default, and whether another value is dropped.

    Where no version lacks the field, or such a version has no such part at all, a default may be null if
    the field may.
    """
    differences: list[str] = []
    by_name = {snake_case(field["name"]): field for field in theirs if _carried(field, declared)}
    for ours in (field for field in fields_of(cls) if field.name in by_name):
        name = f"{cls.__name__}.{ours.name}"
        their_field = by_name[ours.name]
        carried = _carried(their_field, declared)
        parts = their_field.get("fields") or common.get(their_field["type"].removeprefix("[]"))
        expected = default_of(their_field, parts)
        default: Any = ours.default
        absent = default is None and ours.tag >= 0 and ours.null_since > NEWEST  # one of defaults, to Kafka
        if ours.struct is not None and (absent or default == ours.struct()):
            default = "a struct"
        always = carried == declared and all(ours.null_since <= version for version in carried)
        if default != expected and not (default is None and always):
            differences.append(f"{name}: default {default!r}, {expected!r} in Kafka")
        if carried != declared and ours.ignorable != bool(their_field.get("ignorable")):
            differences.append(f"{name}: ignorable is {ours.ignorable} here, not so in Kafka")
        single = ours.item if ours.item is not None else ours
        if parts is not None and single.struct is not None:
            differences += compare_absence(single.struct, parts, common, carried)
    return differences


def _carried(field: Json, declared: list[int]) -> list[int]:
    return [version for version in declared if within(field["versions"], version)]


def compare_message(cls: type[Struct], theirs: Json) -> list[str]:
    """What differs between our declaration of a message and Kafka's."""
    common = {each["name"]: each["fields"] for each in theirs.get("commonStructs", [])}
    facts = FACTS[cls]
    declared = list(range(facts.first, facts.last + 1))
    first, last = versions(theirs["validVersions"])
    bounds = (first, UNSTABLE_SINCE.get(cls.__name__, last + 1) - 1, versions(theirs["flexibleVersions"])[0])
    differences = [
        difference
        for version in declared
        for difference in compare_fields(cls.__name__, cls, theirs["fields"], common, version)
    ]
    differences += compare_absence(cls, theirs["fields"], common, declared)
    if (facts.first, facts.last, facts.flexible) != bounds:
        differences.append(f"{cls.__name__}: {facts} here, {bounds} in Kafka")
    return differences


@pytest.mark.parametrize("cls", [*requests_and_responses(), *consumer_messages()], ids=version_id)
def test_a_declaration_says_what_kafka_says(jars: Path, cls: type[Struct]) -> None:
    theirs = definition(jars, cls.__name__)
    assert compare_message(cls, theirs) == []
    if theirs["type"] == "request":
        assert bool(theirs.get("latestVersionUnstable")) == (cls.__name__ in UNSTABLE_SINCE)


@pytest.mark.parametrize("cls", group_records(), ids=version_id)
def test_a_record_of_groups_is_declared_as_kafkas(jars: Path, cls: type[Struct]) -> None:
    assert compare_message(cls, definition(jars, cls.__name__, GROUP_COORDINATOR)) == []


def test_the_types_of_group_records_are_kafkas(jars: Path) -> None:
    """All but those of share and streams groups. A type's key and value carry its number."""
    with ZipFile(jars / GROUP_COORDINATOR) as archive:
        names = [Path(name).stem for name in archive.namelist() if name.endswith(".json")]
    theirs = {name: definition(jars, name, GROUP_COORDINATOR)["apiKey"] for name in names}
    ours = {cls.__name__: number for number, pair in TYPES.items() for cls in pair}
    ours |= {"LegacyOffsetCommitKey": 0, "LegacyOffsetCommitValue": 0}
    assert ours == {
        name: number for name, number in theirs.items() if not name.startswith(("ShareGroup", "StreamsGroup"))
    }
    assert TYPES[0] == TYPES[1]
    for cls in TYPES[0]:
        legacy = definition(jars, "Legacy" + cls.__name__, GROUP_COORDINATOR)
        assert legacy["validVersions"] == "0"
        assert compare_fields(cls.__name__, cls, legacy["fields"], {}, 0) == []


@pytest.mark.parametrize("key", DECLARED)
def test_the_table_advertises_what_the_messages_have(jars: Path, key: int) -> None:
    api = DECLARED[key]
    facts = FACTS[api.request]
    theirs = definition(jars, api.name + "Request")
    assert (theirs["apiKey"], definition(jars, api.name + "Response")["apiKey"]) == (key, key)
    assert "broker" in theirs["listeners"]
    assert FACTS[api.response] == facts
    assert (api.min_decodable, api.max_version, api.flexible_since) == (
        facts.first,
        facts.last,
        facts.flexible,
    )
    assert api.min_version == (0 if key == PRODUCE else facts.first)


def test_headers_have_the_versions_that_frames_assumes(jars: Path) -> None:
    request, response = definition(jars, "RequestHeader"), definition(jars, "ResponseHeader")
    assert (request["validVersions"], request["flexibleVersions"]) == ("1-2", "2+")
    assert [(field["name"], field["type"]) for field in request["fields"]] == [
        ("RequestApiKey", "int16"),
        ("RequestApiVersion", "int16"),
        ("CorrelationId", "int32"),
        ("ClientId", "string"),
    ]
    assert request["fields"][3]["flexibleVersions"] == "none"
    assert (response["validVersions"], response["flexibleVersions"]) == ("0-1", "1+")
    assert [(field["name"], field["type"]) for field in response["fields"]] == [("CorrelationId", "int32")]
