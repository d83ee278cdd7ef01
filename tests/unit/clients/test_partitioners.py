"""Keys go where Java's client puts them."""

import pytest

from tailrace.clients.partitioners import StickyPartitioner, murmur2, partition_of_key


@pytest.mark.parametrize(
    ("data", "expected"),
    [  # as in the tests of Kafka's own Utils.murmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_javas(data: bytes, expected: int) -> None:
    assert murmur2(data) == expected & 0xFFFFFFFF


def test_a_key_has_one_partition_below_the_count() -> None:
    for count in (1, 3, 50):
        partitions = {partition_of_key(str(number).encode(), count) for number in range(500)}
        assert partitions == set(range(count))


def test_without_a_key_a_partition_is_kept_until_its_batch_is_sent() -> None:
    sticky = StickyPartitioner()
    first = sticky.partition("t", 3)
    assert sticky.partition("t", 3) == first
    sticky.on_batch("t", 3)
    assert sticky.partition("t", 3) != first
    sticky.on_batch("t", 1)
    assert sticky.partition("t", 1) == 0
