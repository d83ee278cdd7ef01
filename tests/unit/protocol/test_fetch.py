"""The short way to encode a Fetch response gives the bytes of the long way."""

from random import Random
from typing import Any

import pytest

from tailrace.core.errors import ProtocolError
from tailrace.core.protocol.compile import decode, encode
from tailrace.core.protocol.messages.fetch import (
    FetchedTopic,
    FetchResponse,
    FetchResponseAbortedTransaction,
    FetchResponsePartition,
    FetchResponseTopic,
    encode_fetch_response,
)

SIZES = (None, 0, 1, 125, 126, 127, 16381, 16382, 16383, 70000, 2097150, 2097151)


def topics_of(random: Random, version: int) -> list[FetchedTopic]:
    def partition() -> tuple[int, int, int, int, int, Any]:
        size = random.choice(SIZES[:9])
        records = None if size is None else random.randbytes(size)
        return (
            random.randrange(9),
            random.choice((0, 0, 1, 3, 6, 100)),
            random.randrange(2**40),
            5,
            6,
            records,
        )

    def name() -> str | bytes:
        return random.randbytes(16) if version >= 13 else "t" * random.choice((1, 127, 200))

    return [
        (name(), [partition() for _ in range(random.choice((0, 1, 2, 130)))])
        for _ in range(random.choice((0, 1, 1, 3)))
    ]


def aborted(error: int, committed: bool) -> list[FetchResponseAbortedTransaction] | None:
    """None or no transactions, as Kafka says: no error, and what does not exist, and any other error."""
    return [] if error in (3, 100) or (committed and not error) else None


def long_way(version: int, topics: list[FetchedTopic], committed: bool) -> FetchResponse:
    return FetchResponse(
        *(3, 0, 9 if version >= 7 else 0),
        [
            FetchResponseTopic(
                "" if version >= 13 else str(topic),
                topic if isinstance(topic, bytes) else bytes(16),
                [
                    FetchResponsePartition(
                        *each[:5], aborted_transactions=aborted(each[1], committed), records=each[5]
                    )
                    for each in partitions
                ],
            )
            for topic, partitions in topics
        ],
    )


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("version", range(4, 19))
def test_both_ways_give_the_same_bytes(version: int, committed: bool) -> None:
    random = Random(version)
    for _ in range(10):
        topics = topics_of(random, version)
        session = 9 if version >= 7 else 0
        pieces = encode_fetch_response(version, 3, 0, session, topics, committed=committed)
        assert b"".join(pieces) == encode(long_way(version, topics, committed), version)


@pytest.mark.parametrize("size", SIZES)
def test_records_of_any_size_have_the_right_length(size: int | None) -> None:
    records = None if size is None else bytes(size)
    topics: list[FetchedTopic] = [(bytes(range(16)), [(1, 0, 2, 3, 4, records)])]
    pieces = encode_fetch_response(18, 0, 0, 0, topics)
    read = decode(FetchResponse, 18, b"".join(pieces)).responses[0].partitions[0]
    assert read.records == records
    assert not size or pieces[1] is records


def test_what_the_wire_cannot_hold_is_refused() -> None:
    with pytest.raises(ProtocolError):
        encode_fetch_response(18, 2**31, 0, 0, [])
