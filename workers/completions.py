"""What a worker owes the gateways: completions of entries, now or later, and notices of rows that moved."""

from tailrace.shm.links import DESCRIPTOR
from tailrace.shm.region import ShmError
from tailrace.shm.ring import DescriptorProducer
from tailrace.workers.descriptors import ASKS_MAX, COMPLETIONS_MAX, REQUESTS_MAX, ROW_ADVANCED, pack
from tailrace.workers.process import ProcessContext


class Completions:
    """Per gateway slot. A ring back always has room for what its gateway has under way; notices take the
    rest of it, and wait when there is none.
    """

    def __init__(self, context: ProcessContext) -> None:
        self._context = context
        self._notices: dict[int, dict[int, None]] = {}  # rows that a gateway is to be told of, each once
        self._later: dict[int, list[bytes]] = {}  # completions of entries of an earlier run

    @property
    def is_waiting(self) -> bool:
        """Whether something is yet to be sent."""
        return bool(self._notices or self._later)

    def notice(self, slot: int, row: int) -> None:
        """The row moved past what this gateway waits for."""
        self._notices.setdefault(slot, {})[row] = None

    def later(self, slot: int, incarnation: int, completion: bytes) -> None:
        """Complete an entry that this incarnation of the gateway sent in an earlier run."""
        if self._context.slots.is_live(slot, incarnation):  # (R) its successor has other requests
            self._later.setdefault(slot, []).append(completion)

    def send(self, slot: int, back: DescriptorProducer, completions: list[bytes]) -> None:
        """Push these and what waits for the same gateway, publish and ring."""
        for completion in [*completions, *self._later.pop(slot, ())]:
            pushed = back.try_push(completion)
            assert pushed, "a gateway has fewer entries under way than the ring back has room for"
        self._push_notices(slot, back)
        back.publish()
        self._context.bells.ring(slot)

    def send_waiting(self) -> None:
        """Send what can be sent now, to every gateway; nothing is owed to a dead one."""
        for slot in {*self._notices, *self._later}:
            try:
                back = self._context.links.outgoing(slot, DESCRIPTOR, COMPLETIONS_MAX)
            except ShmError:  # no room for a ring now
                continue
            if back is None:
                self.forget(slot)
            else:
                self.send(slot, back, [])

    def _push_notices(self, slot: int, back: DescriptorProducer) -> None:
        rows = self._notices.pop(slot, None)
        while rows:
            if back.room() <= REQUESTS_MAX + ASKS_MAX:
                self._notices[slot] = rows  # the next turn tries again
                return
            back.try_push(pack(ROW_ADVANCED, rows.popitem()[0], 0, 0, 0, 0, 0, 0))

    def forget(self, slot: int) -> None:
        """The gateway is dead."""
        self._notices.pop(slot, None)
        self._later.pop(slot, None)
