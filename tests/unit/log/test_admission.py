"""What a Produce request's records of one partition may be, as Kafka takes and refuses them."""

import pytest

from tailrace.core.errors import (
    CORRUPT_MESSAGE,
    INVALID_RECORD,
    NONE,
    UNSUPPORTED_COMPRESSION_TYPE,
    KafkaError,
)
from tailrace.core.log.admission import is_plain, whole_batch
from tests.support.batches import batch, changed, message_set

GOOD = batch()
TAIL = 5  # bytes of other things around the records


def taken(records: bytes, version: int = 9) -> tuple[int, int]:
    """The error code, and how much of the records is taken."""
    buffer = bytes(TAIL) + records + b"\xff" * TAIL
    if is_plain(buffer, TAIL, len(records), version):
        return NONE, len(records)
    try:
        return NONE, whole_batch(buffer, TAIL, len(records), version)
    except KafkaError as error:
        return error.code, 0


@pytest.mark.parametrize(
    ("records", "code"),
    [
        (b"", INVALID_RECORD),
        (GOOD[:11], INVALID_RECORD),
        (GOOD[:16], INVALID_RECORD),
        (GOOD[:60], INVALID_RECORD),
        (GOOD[:-1], INVALID_RECORD),
        (GOOD + GOOD, INVALID_RECORD),
        (GOOD + message_set(1, b"old"), INVALID_RECORD),
        (message_set(0, b"old"), INVALID_RECORD),
        (message_set(1, b"old", b"and more"), INVALID_RECORD),
        (changed(GOOD, magic=3), CORRUPT_MESSAGE),
        (changed(GOOD, magic=-1), CORRUPT_MESSAGE),
        (changed(GOOD, length=13), CORRUPT_MESSAGE),
        (changed(GOOD, length=-13), CORRUPT_MESSAGE),
        (changed(GOOD, length=14)[:26], CORRUPT_MESSAGE),
        (GOOD + changed(GOOD, length=13), CORRUPT_MESSAGE),
        (changed(GOOD, length=2**31 - 1), INVALID_RECORD),
    ],
)
def test_what_is_not_one_batch_is_refused(records: bytes, code: int) -> None:
    assert taken(records) == (code, 0)


@pytest.mark.parametrize("tail", [b"", b"12345", GOOD[:16], GOOD[:-1]])
def test_what_follows_and_is_no_whole_batch_is_left_out(tail: bytes) -> None:
    assert taken(GOOD + tail) == (NONE, len(GOOD))


def test_zstd_came_with_version_7() -> None:
    compressed = batch(codec=4)
    assert taken(compressed, 6) == (UNSUPPORTED_COMPRESSION_TYPE, 0)
    assert taken(compressed + b"12345", 6) == (UNSUPPORTED_COMPRESSION_TYPE, 0)
    assert taken(compressed, 7) == (NONE, len(compressed))
    assert taken(batch(codec=3), 3)[0] == NONE
