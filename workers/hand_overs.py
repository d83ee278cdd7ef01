"""Brokers that are to stop and first give what they lead to others: asked of the controller that decides.

Who has not been answered after LIMIT_S stops all the same: it is as if it had died.
"""

from collections.abc import Callable
from typing import Final

from tailrace.workers.control import ShutDownBroker

LIMIT_S: Final = 30.0
LOOK_S: Final = 0.1  # how often a controller is looked for that takes the question

ActiveController = Callable[[], tuple[int, int]]
"""Its slot and its epoch; 0, 0: there is none."""
Send = Callable[[int, ShutDownBroker], bool]


class _HandOver:
    """Of one broker."""

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.asked = 0  # the epoch of the controller that was asked
        self.is_done = False


class HandOvers:
    """Those under way."""

    def __init__(self, active_controller: ActiveController, send: Send) -> None:
        self._active_controller = active_controller
        self._send = send
        self._under_way: dict[int, _HandOver] = {}  # by the broker's id

    def __contains__(self, node_id: int) -> bool:
        return node_id in self._under_way

    def begin(self, node_id: int, now_s: float) -> None:
        """This broker is to stop."""
        self._under_way.setdefault(node_id, _HandOver(now_s + LIMIT_S))

    def cancel(self, node_id: int) -> None:
        """It is dead, or dying."""
        self._under_way.pop(node_id, None)

    def on_may_stop(self, node_id: int) -> None:
        """The controller says so."""
        found = self._under_way.get(node_id)
        if found is not None:
            found.is_done = True

    def step(self, now_s: float) -> list[int]:
        """Ask what has to be asked, of a new controller once more; those that stop now."""
        slot, epoch = self._active_controller()
        for node_id, found in self._under_way.items():
            if epoch not in (0, found.asked) and self._send(slot, ShutDownBroker(broker=node_id)):
                found.asked = epoch
        over = [
            node_id
            for node_id, found in self._under_way.items()
            if found.is_done or now_s >= found.deadline_s
        ]
        for node_id in over:
            del self._under_way[node_id]
        return over

    def wait_s(self) -> float:
        """Seconds until `step` is due if nothing happens."""
        return LOOK_S if self._under_way else 3600.0
