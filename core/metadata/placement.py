"""Which brokers hold the replicas of a new topic, and which worker slot serves a replica."""

from collections.abc import Mapping, Sequence

from tailrace.core.metadata.records import BrokerRegistered


class _Turns:
    """Brokers in turn."""

    def __init__(self, broker_ids: Sequence[int], start: int) -> None:
        self.broker_ids = sorted(broker_ids)
        self._first = start % len(broker_ids) if broker_ids else 0
        self._taken = 0

    def begin(self) -> None:
        """A partition begins: it has none yet."""
        self._taken = 0

    def vary(self, times: int) -> None:
        """Others come after the first of all, the same at the same count of times."""
        if len(self.broker_ids) > 2:
            tail = self.broker_ids[1:]
            turned = times % len(tail)
            self.broker_ids[1:] = tail[turned:] + tail[:turned]

    def advance(self) -> None:
        """The next partition begins with the next broker."""
        if self.broker_ids:
            self._first = (self._first + 1) % len(self.broker_ids)

    def take(self) -> int | None:
        """The next broker that the partition does not have yet; None when it has all."""
        if self._taken >= len(self.broker_ids):
            return None
        broker_id = self.broker_ids[(self._first + self._taken) % len(self.broker_ids)]
        self._taken += 1
        return broker_id


class _Rack:
    """The brokers of a rack: fenced ones come after all others, and never first."""

    def __init__(self, brokers: Sequence[BrokerRegistered], start: int) -> None:
        self.unfenced = _Turns([broker.broker_id for broker in brokers if not broker.fenced], start)
        self.fenced = _Turns([broker.broker_id for broker in brokers if broker.fenced], start)

    def vary(self, times: int) -> None:
        """See `_Turns`."""
        self.unfenced.vary(times)
        self.fenced.vary(times)

    def take(self) -> int | None:
        """The next that the partition does not have yet."""
        found = self.unfenced.take()
        return self.fenced.take() if found is None else found


def place_replicas(
    brokers: Sequence[BrokerRegistered], partition_count: int, replication_factor: int, start: int
) -> list[tuple[int, ...]]:
    """The replicas of each partition, the preferred leader first.

    As Kafka's striped placement: each partition begins with the rack after the one before it began with and
    takes a broker from rack to rack, in each the next in turn, which moves on when the rack leads; leaders
    are not fenced. When all have led once the order changes, so that a dead broker's leaders do not all fall
    to the same neighbour: Kafka shuffles, here it follows from `start`, the count of partitions there are.
    """
    assert 0 < replication_factor <= len(brokers)
    assert not all(broker.fenced for broker in brokers)
    names = sorted({broker.rack or "" for broker in brokers})
    racks = [
        _Rack([broker for broker in brokers if (broker.rack or "") == name], start // len(names))
        for name in names
    ]
    unfenced_count = sum(not broker.fenced for broker in brokers)
    placed: list[tuple[int, ...]] = []
    for partition in range(start, start + partition_count):
        if not placed or partition % unfenced_count == 0:
            for rack in racks:
                rack.vary(1 if placed else start // unfenced_count)
        first_rack = partition % len(racks)
        placed.append(_place_one(racks[first_rack:] + racks[:first_rack], replication_factor))
    return placed


def _place_one(racks: Sequence[_Rack], replication_factor: int) -> tuple[int, ...]:
    for rack in racks:
        rack.unfenced.begin()
        rack.fenced.begin()
    leading, leader = next((rack, found) for rack in racks if (found := rack.unfenced.take()) is not None)
    replicas = [leader]
    others = [rack for rack in racks if rack is not leading]
    while len(replicas) < replication_factor:
        for rack in others:
            found = rack.take() if len(replicas) < replication_factor else None
            if found is not None:
                replicas.append(found)
        others = list(racks)
    leading.unfenced.advance()
    leading.fenced.advance()
    return tuple(replicas)


def pick_worker(loads: Mapping[int, int], first_slot: int, workers_max: int, avoid: frozenset[int]) -> int:
    """The slot that serves one more replica: an unused one as long as `workers_max` allows, else the least
    loaded.

    `loads` counts the replicas of every slot in use. Slots in `avoid` (their process keeps dying) are taken
    only when there is no other.
    """
    slots = range(first_slot, first_slot + workers_max)
    return min(slots, key=lambda slot: (slot in avoid, loads.get(slot, 0), slot))
