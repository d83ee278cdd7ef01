"""What befalls a simulated cluster, and how often."""

from msgspec import Struct


class Plan(Struct, frozen=True, kw_only=True):
    """What befalls a cluster, and how often: weights, of one thing each `every_ms`."""

    bad_ms: int = 900
    every_ms: tuple[int, int] = (5, 110)
    kill_worker: float = 4
    kill_in_turn: float = 3
    kill_gateway: float = 0.5
    kill_controller: float = 2
    kill_broker: float = 1.5
    kill_all: float = 0.4
    power: float = 0.4
    pause: float = 3
    resign: float = 1.5
    part: float = 1.5
    move: float = 3
    elect: float = 2
    shut_down: float = 1
    lose_disk: float = 0.4
    lose_dirs: float = 0.4
    break_dir: float = 0.5
    delete: float = 0.4
    snapshot: float = 1
    change_voters: float = 0.7


PLAN = Plan()
MOVING = Plan(move=10, elect=5, kill_all=0.2, power=0.2, pause=2)
CONTROLLERS = Plan(
    kill_controller=6, resign=6, part=4, pause=8, elect=5, move=4, kill_all=0, power=0, change_voters=2
)
DEATHS = Plan(every_ms=(5, 40), kill_worker=12, kill_in_turn=12, kill_broker=3, move=1)
STOPS = Plan(kill_all=4, power=4)
DISKS = Plan(lose_dirs=4, break_dir=4, kill_broker=3, move=2)
TOPICS = Plan(every_ms=(5, 70), delete=8, kill_broker=2, kill_all=1, shut_down=2)
BREAKS = Plan(every_ms=(5, 40), break_dir=8, kill_worker=8, kill_in_turn=8, lose_dirs=0, power=0)
CHURN = Plan(every_ms=(5, 50), delete=10, pause=12, kill_broker=0.5, kill_all=0, power=0)
PLANS = (PLAN, PLAN, MOVING, CONTROLLERS, DEATHS, STOPS, DISKS, TOPICS)
