"""Which partition of __consumer_offsets holds a group."""


def java_hash(text: str) -> int:
    """String.hashCode: over UTF-16 units, as a signed 32-bit number."""
    value = 0
    units = text.encode("utf-16-be", "surrogatepass")
    for at in range(0, len(units), 2):
        value = (31 * value + (units[at] << 8 | units[at + 1])) & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def group_partition(group_id: str, partition_count: int) -> int:
    """As Kafka's GroupCoordinatorService.partitionFor: Utils.abs(hash) % count, where abs clears the sign of
    the smallest number.
    """
    value = java_hash(group_id)
    return (0 if value == -(1 << 31) else abs(value)) % partition_count
