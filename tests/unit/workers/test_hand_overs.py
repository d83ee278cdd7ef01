"""A broker that is to stop asks the controller that decides, and stops when it may or has waited enough."""

from tailrace.workers.control import ShutDownBroker
from tailrace.workers.hand_overs import LIMIT_S, HandOvers


class World:
    """A controller that changes, and hears or does not."""

    def __init__(self) -> None:
        self.active: tuple[int, int] = (0, 0)
        self.hears = True
        self.asked: list[tuple[int, int]] = []
        self.hand_overs = HandOvers(lambda: self.active, self._send)

    def _send(self, slot: int, message: ShutDownBroker) -> bool:
        if self.hears:
            self.asked.append((slot, message.broker))
        return self.hears


def test_it_stops_when_the_controller_says_so() -> None:
    world = World()
    world.active = (4, 1)
    world.hand_overs.begin(2, 100.0)
    assert world.hand_overs.step(100.0) == []
    assert world.hand_overs.step(101.0) == []
    assert world.asked == [(4, 2)], "asked once"
    assert 2 in world.hand_overs
    world.hand_overs.on_may_stop(3)
    assert world.hand_overs.step(102.0) == []
    world.hand_overs.on_may_stop(2)
    assert world.hand_overs.step(102.0) == [2]
    assert 2 not in world.hand_overs
    assert world.hand_overs.step(103.0) == []


def test_every_new_controller_is_asked_again() -> None:
    """The one before may have died before it did anything."""
    world = World()
    world.hand_overs.begin(2, 100.0)
    assert world.hand_overs.step(100.0) == []
    assert world.asked == []
    world.active, world.hears = (4, 1), False
    world.hand_overs.step(100.1)
    world.hears = True
    world.hand_overs.step(100.2)
    world.active = (7, 2)
    world.hand_overs.step(100.3)
    assert world.asked == [(4, 2), (7, 2)]


def test_it_does_not_wait_for_ever_nor_after_its_death() -> None:
    world = World()
    world.hand_overs.begin(2, 100.0)
    world.hand_overs.begin(2, 150.0)  # asked for twice: one stop
    world.hand_overs.begin(3, 100.0)
    world.hand_overs.cancel(3)
    assert world.hand_overs.step(100.0 + LIMIT_S - 0.1) == []
    assert world.hand_overs.step(100.0 + LIMIT_S) == [2]
