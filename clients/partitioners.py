"""Which partition a record goes to: by the hash of its key as in Java, else one partition a batch."""

import random

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995
_SEED = 0x9747B28C


def murmur2(data: bytes) -> int:
    """MurmurHash2 of 32 bits with the seed that Kafka's Java client uses."""
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for position in range(0, whole, 4):
        k = int.from_bytes(data[position : position + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_of_key(key: bytes, partition_count: int) -> int:
    """The partition that every Java client puts this key into."""
    return (murmur2(key) & 0x7FFFFFFF) % partition_count


class StickyPartitioner:
    """Records without a key share a partition until its batch is sent: fewer and larger batches."""

    def __init__(self) -> None:
        self._current: dict[str, int] = {}

    def partition(self, topic: str, partition_count: int) -> int:
        """The partition of the batch that is being filled."""
        current = self._current.get(topic)
        if current is None or current >= partition_count:
            current = self._current[topic] = random.randrange(partition_count)
        return current

    def on_batch(self, topic: str, partition_count: int) -> None:
        """A batch was sent: go on with another partition."""
        current = self._current.get(topic)
        if current is not None and partition_count > 1:
            self._current[topic] = (current + 1 + random.randrange(partition_count - 1)) % partition_count
