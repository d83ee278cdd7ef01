"""A worker process: the real loop, a turn at a time, watched."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tailrace.workers import control
from tailrace.workers.worker import Worker
from tests.sim.cluster_context import Context

if TYPE_CHECKING:
    from tests.sim.cluster_host import Host


class WorkerProcess:
    """See the module."""

    def __init__(self, host: "Host") -> None:
        self.host = host

    def begin(self, context: Context) -> None:
        """It has its slot."""
        self.context, self.worker = context, Worker(context)
        replicas = self.worker.replicas
        replicas.obey = self._watched(replicas.obey)  # type: ignore[method-assign]

    def _watched(self, obey: Callable[[int, control.Message], None]) -> Callable[[int, control.Message], None]:
        def watched(asker: int, message: control.Message) -> None:
            self.host.world.tell("{} is told: {}", self.host.name_of(self.context.slot), message)
            if isinstance(message, control.ServeReplica):
                self.host.readers.check_order(self.context.slot, message)
            obey(asker, message)

        return watched

    def turn(self) -> None:
        """One of its loop, and a sleep if there is nothing to do."""
        self.context.one_turn()
        self.worker.serve()
        wait_ms = int(self.context.waits_s * 1000)
        self.host.later(self.context.slot, wait_ms if wait_ms else self.host.world.random.randint(0, 3))
