"""Which brokers and which of their log directories hold the replicas of a new topic, and which worker slot
serves a replica.
"""

from collections.abc import Mapping, Sequence

import msgspec

from tailrace.core.metadata.records import PartitionRecord, Record


def place_replicas(
    broker_ids: Sequence[int], partition_count: int, replication_factor: int, start: int
) -> list[tuple[int, ...]]:
    """The replicas of each partition, the preferred leader first.

    Leaders go round the brokers from `start` on; followers sit on the brokers after their leader, one further
    away with each round, so that a dead broker's leaders do not all fall to the same neighbour.
    """
    count = len(broker_ids)
    assert 0 < replication_factor <= count
    placed: list[tuple[int, ...]] = []
    for partition in range(partition_count):
        leader = (start + partition) % count
        shift = partition // count
        followers = [(leader + 1 + (shift + i) % (count - 1)) % count for i in range(replication_factor - 1)]
        placed.append(tuple(broker_ids[i] for i in (leader, *followers)))
    return placed


def choose_directories(
    records: Sequence[Record],
    logs_by_directory: Mapping[str, int],
    online: Mapping[int, Sequence[str]],
) -> list[Record]:
    """The records with a directory for each replica of a new partition: the one with the fewest logs, as in
    Kafka, of those that its broker has in `online` (ids, in the order of log.dirs). Without any that is left
    for the next start.
    """
    logs = {
        broker: {directory: logs_by_directory.get(directory, 0) for directory in directories}
        for broker, directories in online.items()
    }
    placed: list[Record] = []
    for record in records:
        if isinstance(record, PartitionRecord):
            chosen = tuple(_take_emptiest(logs.get(broker, {})) for broker in record.replicas)
            if any(chosen):
                record = msgspec.structs.replace(record, directories=chosen)
        placed.append(record)
    return placed


def _take_emptiest(logs: dict[str, int]) -> str:
    if not logs:
        return ""
    directory = min(logs, key=lambda directory: logs[directory])
    logs[directory] += 1
    return directory


def pick_worker(loads: Mapping[int, int], first_slot: int, workers_max: int, avoid: frozenset[int]) -> int:
    """The slot that serves one more replica: an unused one as long as `workers_max` allows, else the least
    loaded.

    `loads` counts the replicas of every slot in use. Slots in `avoid` (their process keeps dying) are taken
    only when there is no other.
    """
    slots = range(first_slot, first_slot + workers_max)
    return min(slots, key=lambda slot: (slot in avoid, loads.get(slot, 0), slot))
