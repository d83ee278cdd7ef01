"""A worker process: the real loop, a turn at a time, watched."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tailrace.workers import control
from tailrace.workers.worker import Worker
from tests.sim.cluster_context import Context

if TYPE_CHECKING:
    from tests.sim.cluster_host import Host

Obey = Callable[[int, control.Message], None]


class WorkerProcess:
    """See the module."""

    def __init__(self, host: "Host") -> None:
        self.host = host

    def begin(self, context: Context) -> None:
        """It has its slot."""
        self.context, self.worker = context, Worker(context)
        replicas = self.worker.replicas
        obey = self._watched(replicas.obey)
        replicas.obey = obey  # type: ignore[method-assign, assignment]

    def _watched(self, obey: Obey) -> Obey:
        host = self.host

        def watched(asker: int, message: control.Message) -> None:
            name = host.name_of(self.context.slot)
            host.world.tell("{} is told: {}", name, message)
            known = self._order_of(message)
            obey(asker, message)
            obeyed = self._order_of(message)
            if obeyed is not None:
                host.readers.check_order(name, obeyed, known)
            host.readers.check_leaders()

        return watched

    def _order_of(self, message: control.Message) -> control.ServeReplica | None:
        """What it goes by, of the replica that an order is about."""
        if not isinstance(message, control.ServeReplica):
            return None
        replica = self.worker.replicas.by_row.get(message.row)
        is_same = replica is not None and replica.order.row_generation == message.row_generation
        return replica.order if replica is not None and is_same else None

    def turn(self) -> None:
        """One of its loop, and a sleep if there is nothing to do."""
        self.context.one_turn()
        self.worker.serve()
        wait_ms = int(self.context.waits_s * 1000)
        self.host.later(self.context.slot, wait_ms if wait_ms else self.host.world.random.randint(0, 3))
