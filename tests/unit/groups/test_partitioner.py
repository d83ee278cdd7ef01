"""Java's hash of a string, which decides where a group's offsets lie."""

import pytest

from tailrace.core.groups.partitioner import group_partition, java_hash


@pytest.mark.parametrize(
    ("text", "value"),
    [("", 0), ("a", 97), ("hello", 99162322), ("polygenelubricants", -(1 << 31)), ("\U0001f600", 1772899)],
)
def test_hashes_are_java_s(text: str, value: int) -> None:
    assert java_hash(text) == value


def test_the_sign_is_dropped() -> None:
    assert group_partition("polygenelubricants", 50) == 0
    assert group_partition("hello", 50) == 99162322 % 50
    negative = "g" * 20
    assert java_hash(negative) < 0
    assert group_partition(negative, 7) == -java_hash(negative) % 7
