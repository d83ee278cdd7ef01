"""Produce, Fetch, ListOffsets and frames, good and bad: every field and every stored byte as Apache Kafka has
them, but for what is listed here with its reason.
"""

import fnmatch
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from perf import lifecycle
from perf.peers import jars
from perf.peers.kafka import Kafka
from perf.peers.peer import Peer
from perf.peers.tailrace import Tailrace
from tests.support import data_cases, frame_cases, log_cases, read_cases, recompression_cases
from tests.support.data_cases import Cluster
from tests.support.peers import require
from tests.support.raw_client import Outcome

GROUPS = (
    data_cases.versions,
    data_cases.headers,
    data_cases.sizes_and_times,
    data_cases.producers,
    data_cases.unanswered,
    recompression_cases.codecs,
    read_cases.fetches,
    read_cases.waits,
    read_cases.sessions,
    read_cases.offsets,
    log_cases.deletions,
    log_cases.policies,
    log_cases.epochs,
    log_cases.described,
    frame_cases.headers,
    frame_cases.endings,
    frame_cases.unserved,
)

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
    "Produce * to-*: said to be codec *": "Kafka fails with UNKNOWN_SERVER_ERROR, we say INVALID_RECORD",
    "Produce * to-*: timestamp -5 *": "the same",
    "*: transactional id*": "no transactions: LIMITS.md",
    "Fetch v13: last fetched epoch [15] at 3": "what followers ask: LIMITS.md",
    "Fetch *: replica 5": "no fetches by replicas: LIMITS.md",
    "ListOffsets all deleted: -3": "Kafka tells of a deleted record until its segment goes, minutes later",
    "trailing bytes: versions": "we advertise what we serve, no more",
}
PARTLY = {  # the codes and offsets are equal
    "Produce *: two hours ahead *": "which records were at fault is not told: " + HEADER_BELIEVED,
    "Produce *: one record ahead *": "the same",
    "Produce *: too old *": "the same",
    "Produce *: append time, said so *": "the same",
    "Produce * to-*: one far ahead*": "which records were at fault is not told, though it is found",
    "Produce * to-*: an old one*": "the same",
    "Produce * to-*: log append time said*": "the same",
}


def _ask_all(broker: Peer, address: Callable[[], str]) -> dict[str, Outcome]:
    broker.start()
    try:
        lifecycle.wait_until_served(broker)
        cluster = Cluster(address())
        for group in GROUPS:
            group(cluster)
        cluster.client.close()
        return cluster.found
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


def test_every_field_is_as_kafka_answers(tmp_path: Path) -> None:
    """One test, so that Kafka runs once, however the tests are shared out."""
    require(None if jars.available() else jars.MISSING)
    kafka = Kafka(tmp_path / "kafka", {"log.retention.ms": "-1"})
    expected = _ask_all(kafka, lambda: f"{kafka.address.host}:{kafka.address.port}")
    tailrace = Tailrace(tmp_path / "tailrace", {"node.id": "1", "workers.max": "4"})
    found = _ask_all(tailrace, lambda: tailrace.bootstrap)
    assert found.keys() == expected.keys()
    wrong: list[str] = []
    for what, answer in found.items():
        pair = answer, expected[what]
        if _matches(what, PARTLY):
            pair = _without_record_errors(pair[0]), _without_record_errors(pair[1])
        if not _matches(what, DIFFERENT):
            wrong += _differences(what, *pair)
    different = [what for what, answer in found.items() if answer != expected[what]]
    for pattern in DIFFERENT | PARTLY:
        if not fnmatch.filter(different, pattern):
            wrong.append(f"{pattern} is equal now: take it from the list")
    assert not wrong, "\n".join(wrong)
