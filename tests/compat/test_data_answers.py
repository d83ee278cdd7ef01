"""Produce, Fetch, ListOffsets and frames, good and bad: every field and every stored byte as Apache Kafka has
them, but for what is listed here with its reason. Kafka's processes run once for the module.
"""

import fnmatch
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from perf import lifecycle
from perf.peers import jars
from perf.peers.kafka import Kafka
from perf.peers.peer import Peer
from perf.peers.tailrace import Tailrace
from tests.support import data_cases, frame_cases, read_cases
from tests.support.data_cases import Cluster
from tests.support.peers import require
from tests.support.raw_client import Outcome

GROUPS = {
    "produce": data_cases.versions,
    "batch headers": data_cases.headers,
    "sizes and times": data_cases.sizes_and_times,
    "idempotent producers": data_cases.producers,
    "acks=0": data_cases.unanswered,
    "fetch": read_cases.fetches,
    "fetch waits": read_cases.waits,
    "fetch sessions": read_cases.sessions,
    "list offsets": read_cases.offsets,
    "frames": frame_cases.headers,
    "endings": frame_cases.endings,
    "not served": frame_cases.unserved,
}

HEADER_BELIEVED = (
    "the header of a batch with a right checksum is believed: no record is looked at on the data path"
)
DIFFERENT = {
    # A batch with another place in the same request is not dropped in silence: both are kept and answered.
    "*: partition twice": "Kafka keeps the last of them and answers once",
    "* count and delta of * with 3 records*": HEADER_BELIEVED,
    "* codec ? in name only*": HEADER_BELIEVED,
    "stored: *: timestamp -5": HEADER_BELIEVED,
    "* max timestamp *": HEADER_BELIEVED,
    "* one too old*": HEADER_BELIEVED + "; the latest time counts",
    "Produce *: codec [567] *": "Kafka fails with UNKNOWN_SERVER_ERROR, we say INVALID_RECORD",
    "*: transactional id*": "no transactions: LIMITS.md",
    "Fetch v13: last fetched epoch [15] at 3": "what followers ask: LIMITS.md",
    "Fetch *: replica 5": "no fetches by replicas: LIMITS.md",
    "trailing bytes: versions": "we advertise what we serve, no more",
}
PARTLY = {  # the codes and offsets are equal
    "Produce *: two hours ahead *": "which records were at fault is not told: " + HEADER_BELIEVED,
    "Produce *: one record ahead *": "the same",
    "Produce *: too old *": "the same",
    "Produce *: append time, said so *": "the same",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """What Kafka answered, and what we did, by group and case."""
    require(None if jars.available() else jars.MISSING)
    home = tmp_path_factory.mktemp("answers")
    kafka = Kafka(home / "kafka", {"log.retention.ms": "-1"})
    expected = _ask_all(kafka, lambda: f"{kafka.address.host}:{kafka.address.port}")
    tailrace = Tailrace(home / "tailrace", {"node.id": "1", "workers.max": "4"})
    return expected, _ask_all(tailrace, lambda: tailrace.bootstrap)


def _ask_all(broker: Peer, address: Callable[[], str]) -> dict[str, dict[str, Outcome]]:
    broker.start()
    try:
        lifecycle.wait_until_served(broker)
        cluster = Cluster(address())
        found: dict[str, dict[str, Outcome]] = {}
        for name, group in GROUPS.items():
            cluster.found = found[name] = {}
            group(cluster)
        cluster.client.close()
        return found
    finally:
        broker.stop()


def _matches(what: str, patterns: dict[str, str]) -> bool:
    return any(fnmatch.fnmatchcase(what, pattern) for pattern in patterns)


def _without_record_errors(answer: Any) -> Any:
    """All but the list of records, and the size that tells of it."""
    if isinstance(answer, list):
        return [_without_record_errors(part) for part in cast("list[object]", answer)]
    if not isinstance(answer, dict):
        return answer
    fields = cast("dict[str, object]", answer)
    return {
        name: _without_record_errors(part)
        for name, part in fields.items()
        if name not in ("record_errors", "size")
    }


def _differences(what: str, found: Any, expected: Any) -> Iterator[str]:
    """One line a field."""
    if isinstance(found, dict) and isinstance(expected, dict):
        ours, theirs = cast("dict[str, object]", found), cast("dict[str, object]", expected)
        for name in ours | theirs:
            yield from _differences(f"{what}.{name}", ours.get(name), theirs.get(name))
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):  # pyright: ignore
        pairs = zip(cast("list[object]", found), cast("list[object]", expected), strict=True)
        for at, (ours_at, theirs_at) in enumerate(pairs):
            yield from _differences(f"{what}[{at}]", ours_at, theirs_at)
    elif found != expected:
        yield f"{what}: {found!r}, Kafka: {expected!r}"


@pytest.mark.parametrize("group", GROUPS)
def test_every_field_is_as_kafka_answers(answers: tuple[dict[str, Any], dict[str, Any]], group: str) -> None:
    expected, found = (side[group] for side in answers)
    assert found.keys() == expected.keys()
    different: list[str] = []
    for what, answer in found.items():
        pair = answer, expected[what]
        if _matches(what, PARTLY):
            pair = _without_record_errors(pair[0]), _without_record_errors(pair[1])
        if not _matches(what, DIFFERENT):
            different += _differences(what, *pair)
    assert not different, "\n".join(different)


def test_each_difference_is_still_one(answers: tuple[dict[str, Any], dict[str, Any]]) -> None:
    expected, found = answers
    different = [
        what for group in GROUPS for what, answer in found[group].items() if answer != expected[group][what]
    ]
    for pattern in DIFFERENT | PARTLY:
        assert fnmatch.filter(different, pattern), f"{pattern} is equal now: take it from the list"
