"""Where replicas sit: on which row of the state table, and in which worker slot of their broker."""

import heapq
from collections.abc import Iterable

from tailrace.core.metadata.placement import pick_worker
from tailrace.core.metadata.topics import INTERNAL_TOPICS
from tailrace.shm.slots import Layout
from tailrace.workers.orders import Replica


class Seats:
    """The rows but for the first ones, which are the metadata logs', and the worker slots."""

    def __init__(self, row_count: int, layout: Layout, brokers: range) -> None:
        """`brokers`: the ids of the host's."""
        self.by_row: dict[int, Replica] = {}
        self._by_slot: dict[int, set[int]] = {}
        self._free_rows = list(range(layout.brokers, row_count))
        self._retiring: set[int] = set()
        self._layout = layout
        self._brokers = brokers

    @property
    def rows_free(self) -> int:
        """How many more replicas there is room for."""
        return len(self._free_rows)

    def slots_in_use(self) -> Iterable[int]:
        """The worker slots that hold replicas."""
        return self._by_slot.keys()

    def replicas_of(self, slot: int) -> list[Replica]:
        """The replicas of a worker slot."""
        return [self.by_row[row] for row in sorted(self._by_slot.get(slot, ()))]

    def owner_of(self, slot: int) -> int:
        """The id of the broker whose worker slot it is."""
        return self._brokers[self._layout.broker_of(slot)]

    def finish_adopting(self) -> None:
        """After the last adoption: the rows that are left are free."""
        self._free_rows = [row for row in self._free_rows if row not in self.by_row]

    def take_row(self, former_row: int) -> int:
        """A free row, the one it had before if that is one."""
        if former_row and former_row not in self.by_row:
            self._free_rows.remove(former_row)
            heapq.heapify(self._free_rows)
            return former_row
        return heapq.heappop(self._free_rows)

    def pick_slot(self, topic: str, broker: int, first: Replica | None) -> int:
        """A worker of its own while there is one to have; partitions of internal topics share one.

        `first`: the preferred leader of the partition, if that is another replica and sits already. The
        others sit as it does, each within its broker: then few pairs of processes share rings.
        """
        slots = self._layout.workers(self._brokers.index(broker))
        if first is not None:
            slot = slots[first.slot - self._layout.workers(self._layout.broker_of(first.slot))[0]]
            if slot not in self._retiring:
                return slot
        if topic in INTERNAL_TOPICS:
            for replica in self.by_row.values():
                is_like = replica.topic in INTERNAL_TOPICS and replica.broker == broker
                if is_like and replica.slot not in self._retiring:
                    return replica.slot
        loads = {slot: len(self._by_slot.get(slot, ())) for slot in slots}
        return pick_worker(loads, slots[0], len(slots), frozenset(self._retiring))

    def enter(self, replica: Replica) -> None:
        """It sits there from now on."""
        self.by_row[replica.row] = replica
        self._by_slot.setdefault(replica.slot, set()).add(replica.row)

    def keep_row(self, row: int) -> None:
        """Nobody gets this row, free until now, before it is freed."""
        self._free_rows.remove(row)
        heapq.heapify(self._free_rows)

    def free_row(self, row: int) -> None:
        """Anybody may have this row, in which nobody sits."""
        heapq.heappush(self._free_rows, row)

    def leave(self, replica: Replica, *, keep_row: bool = False) -> bool:
        """Its row is free, unless it is to be kept. Whether its worker slot is, too: that one retires."""
        del self.by_row[replica.row]
        rows = self._by_slot[replica.slot]
        rows.discard(replica.row)
        if not keep_row:
            self.free_row(replica.row)
        if rows:
            return False
        del self._by_slot[replica.slot]
        self._retiring.add(replica.slot)
        return True

    def not_retiring(self, slot: int) -> None:
        """It is wanted, or its process is dead."""
        self._retiring.discard(slot)
