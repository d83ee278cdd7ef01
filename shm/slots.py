"""The table of processes: a fixed row a slot, reused with a new incarnation number.

    word   field              stored by    meaning
       0   slot_count         creator
       1   last_incarnation   supervisor   incarnations given out in this run
       2   death_count        supervisor   deaths stored so far; when it moves, look for dead peers
       3   controller_news    controllers  who last began to decide, or ended: when it or death_count moves,
                                           see `active_controller`
       8   lives              supervisor   a word a broker: see `life`
      32   rows, 32 words each:
       0   incarnation        supervisor   of the process in this slot, 0: never used
       1   dead_incarnation   supervisor   the last incarnation of this slot proven dead
       2   pid                supervisor
       3   role               supervisor
       4   broker             supervisor
       5   index              supervisor   number among its role
       6   state              both         FREE, STARTING (supervisor); READY, STOPPING (the process)
       8   parked             process      1: asleep or about to be, ring its eventfd (its own cache line)
      16   current_row        process      state-table row about to be touched, -1: none
      17   progress           process      grows with each run of work
      18   long_operation     process      not 0: inside a declared long operation
      19   missed_wakeups     process      see doorbell.py
      20   active_epoch       process      of a controller: the epoch in which it decides, 0: it does not
      21   last_epoch         process      of a controller: the last in which one in this slot decided

Rule: an incarnation is never given out twice in a run, and only the supervisor, which reaped it, says that
one is dead (R).
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from tailrace.shm.region import Region, ShmError

KIND: Final = "slots"
VERSION: Final = 3
INCARNATIONS_MAX: Final = 32767  # 15 bits in the words of the heads table

SUPERVISOR: Final = 0
CONTROLLER: Final = 1
GATEWAY: Final = 2
HOUSEKEEPER: Final = 3
WORKER: Final = 4
_ROLE_NAMES: Final = ("supervisor", "controller", "gateway", "housekeeper", "worker")

FREE: Final = 0
STARTING: Final = 1
READY: Final = 2
STOPPING: Final = 3
_STATE_NAMES: Final = ("free", "starting", "ready", "stopping")

SLOT_COUNT: Final = 0
LAST_INCARNATION: Final = 1
DEATH_COUNT: Final = 2
CONTROLLER_NEWS: Final = 3
LIVES: Final = 8
HEADER_WORDS: Final = 32
ROW_WORDS: Final = 32

INCARNATION: Final = 0
DEAD_INCARNATION: Final = 1
PID: Final = 2
ROLE: Final = 3
BROKER: Final = 4
INDEX: Final = 5
STATE: Final = 6
PARKED: Final = 8
CURRENT_ROW: Final = 16
PROGRESS: Final = 17
LONG_OPERATION: Final = 18
MISSED_WAKEUPS: Final = 19
ACTIVE_EPOCH: Final = 20
LAST_EPOCH: Final = 21

SUPERVISOR_SLOT: Final = 0


class Layout(NamedTuple):
    """Whose slot is which: the supervisor's, three of each broker, then the workers, each of one broker.

    Brokers are counted from 0 here.
    """

    brokers: int = 1
    workers_each: int = 1  # slots of worker processes that a broker has

    @property
    def slot_count(self) -> int:
        """How many slots there are."""
        return 1 + self.brokers * (3 + self.workers_each)

    @staticmethod
    def controller(broker: int) -> int:
        """The slot of a broker's controller."""
        return 1 + 3 * broker

    @staticmethod
    def gateway(broker: int) -> int:
        """The slot of a broker's gateway."""
        return 2 + 3 * broker

    @staticmethod
    def housekeeper(broker: int) -> int:
        """The slot of a broker's housekeeper."""
        return 3 + 3 * broker

    def workers(self, broker: int) -> range:
        """The slots of a broker's workers."""
        first = 1 + 3 * self.brokers + broker * self.workers_each
        return range(first, first + self.workers_each)

    def all_workers(self) -> range:
        """The slots of all workers."""
        return range(1 + 3 * self.brokers, self.slot_count)

    def controllers(self) -> list[int]:
        """The controllers' slots."""
        return [self.controller(broker) for broker in range(self.brokers)]

    def gateways(self) -> list[int]:
        """The gateways' slots."""
        return [self.gateway(broker) for broker in range(self.brokers)]

    def broker_of(self, slot: int) -> int:
        """Whose slot it is; the supervisor's is nobody's: 0."""
        if slot <= 3 * self.brokers:
            return max(0, slot - 1) // 3
        return (slot - 1 - 3 * self.brokers) // self.workers_each


def role_name(role: int) -> str:
    """The role's name, as shown to users."""
    return _ROLE_NAMES[role]


def state_name(state: int) -> str:
    """The state's name, as shown to users."""
    return _STATE_NAMES[state]


def row_start(slot: int) -> int:
    """Index in `words` of the first word of the slot's row."""
    return HEADER_WORDS + slot * ROW_WORDS


class SlotTable:
    """Who runs in which slot. Hot paths index `words` by `row_start(slot) + FIELD`."""

    __slots__ = ("count", "region", "words")

    def __init__(self, region: Region) -> None:
        self.region = region
        self.words = region.words
        self.count = region.words[SLOT_COUNT]
        if not 0 < self.count <= (region.size // 8 - HEADER_WORDS) // ROW_WORDS:
            raise ShmError(f"{region.path} is shorter than its slot count says")

    @classmethod
    def create(cls, path: str, count: int) -> "SlotTable":
        """A table of `count` free slots."""
        region = Region.create(path, (HEADER_WORDS + count * ROW_WORDS) * 8, kind=KIND, version=VERSION)
        for slot in range(count):
            region.words[row_start(slot) + CURRENT_ROW] = -1
        region.words[SLOT_COUNT] = count
        return cls(region)

    @classmethod
    def attach(cls, path: str) -> "SlotTable":
        """The table that another process made."""
        return cls(Region.attach(path, KIND, VERSION))

    # The supervisor's side.

    def begin(self, slot: int, role: int, broker: int, index: int) -> int:
        """Give the slot to a process about to be forked; its predecessor is dead. Returns the incarnation."""
        words, row = self.words, row_start(slot)
        predecessor = words[row + INCARNATION]
        assert predecessor == words[row + DEAD_INCARNATION], "a slot is reused only after its process died"
        incarnation = words[LAST_INCARNATION] + 1
        if incarnation > INCARNATIONS_MAX:
            raise ShmError(f"this run has started {INCARNATIONS_MAX} processes, start the broker again")
        words[LAST_INCARNATION] = incarnation
        if role != SUPERVISOR and self._has_ended(broker):
            words[LIVES + broker] = incarnation  # (R) before anybody can see the process
        words[row + PID] = 0
        words[row + ROLE] = role
        words[row + BROKER] = broker
        words[row + INDEX] = index
        words[row + STATE] = STARTING
        words[row + PARKED] = 0
        words[row + CURRENT_ROW] = -1
        words[row + PROGRESS] = 0
        words[row + LONG_OPERATION] = 0
        words[row + MISSED_WAKEUPS] = 0
        words[row + ACTIVE_EPOCH] = 0
        words[row + INCARNATION] = incarnation  # (R) last: publishes the row; pairs with live_incarnation
        return incarnation

    def _has_ended(self, broker: int) -> bool:
        used = [slot for slot in range(self.count) if self.incarnation(slot)]
        own = [slot for slot in used if self.broker(slot) == broker and self.role(slot) != SUPERVISOR]
        return bool(own) and not any(map(self.live_incarnation, own))

    def set_pid(self, slot: int, pid: int) -> None:
        """Stored by the supervisor after the fork."""
        self.words[row_start(slot) + PID] = pid

    def mark_dead(self, slot: int, incarnation: int) -> None:
        """The supervisor reaped this incarnation. The caller then rings every live slot."""
        words, row = self.words, row_start(slot)
        assert words[row + INCARNATION] == incarnation
        words[row + DEAD_INCARNATION] = incarnation
        words[row + STATE] = FREE
        words[row + PID] = 0
        words[row + PARKED] = 0
        words[DEATH_COUNT] += 1  # (R) after dead_incarnation: whoever sees the count finds the dead

    # Everybody's side.

    def incarnation(self, slot: int) -> int:
        """The last incarnation given to the slot, alive or not; 0: none yet."""
        return self.words[row_start(slot) + INCARNATION]

    def dead_incarnation(self, slot: int) -> int:
        """The last incarnation of the slot that was proven dead; 0: none."""
        return self.words[row_start(slot) + DEAD_INCARNATION]

    def is_live(self, slot: int, incarnation: int) -> bool:
        """Whether this very incarnation has the slot and is not proven dead."""
        row = row_start(slot)
        return self.words[row + INCARNATION] == incarnation != self.words[row + DEAD_INCARNATION]

    def live_incarnation(self, slot: int) -> int:
        """The slot's incarnation if not proven dead, else 0."""
        row = row_start(slot)
        incarnation = self.words[row + INCARNATION]
        return incarnation if incarnation != self.words[row + DEAD_INCARNATION] else 0

    def life(self, broker: int) -> int:
        """Which life of this broker it is: 0, or the incarnation that came after all of its processes were
        dead. (R) So what an earlier life of it had said or held is nobody's any more.
        """
        return self.words[LIVES + broker]

    def death_count(self) -> int:
        """Grows by one with each death stored."""
        return self.words[DEATH_COUNT]

    def pid(self, slot: int) -> int:
        """Process id, 0: none."""
        return self.words[row_start(slot) + PID]

    def role(self, slot: int) -> int:
        """Role of the slot's last process."""
        return self.words[row_start(slot) + ROLE]

    def broker(self, slot: int) -> int:
        """Broker index of the slot's last process."""
        return self.words[row_start(slot) + BROKER]

    def index(self, slot: int) -> int:
        """Number of the slot's last process among its role."""
        return self.words[row_start(slot) + INDEX]

    def state(self, slot: int) -> int:
        """FREE, STARTING, READY or STOPPING."""
        return self.words[row_start(slot) + STATE]

    def set_state(self, slot: int, state: int) -> None:
        """Stored by the process in the slot."""
        self.words[row_start(slot) + STATE] = state

    def parked(self, slot: int) -> int:
        """1: asleep or about to be."""
        return self.words[row_start(slot) + PARKED]

    def current_row(self, slot: int) -> int:
        """The state-table row the process was about to touch, -1: none."""
        return self.words[row_start(slot) + CURRENT_ROW]

    def set_current_row(self, slot: int, row: int) -> None:
        """Stored by the process in the slot before it touches a replica's files."""
        self.words[row_start(slot) + CURRENT_ROW] = row

    def progress(self, slot: int) -> int:
        """A count that grows while the process gets on."""
        return self.words[row_start(slot) + PROGRESS]

    def add_progress(self, slot: int) -> None:
        """Stored by the process in the slot, once a run of work."""
        self.words[row_start(slot) + PROGRESS] += 1

    def long_operation(self, slot: int) -> int:
        """Not 0: the process is inside a long operation that it declared."""
        return self.words[row_start(slot) + LONG_OPERATION]

    def set_long_operation(self, slot: int, value: int) -> None:
        """Stored by the process in the slot around a long operation."""
        self.words[row_start(slot) + LONG_OPERATION] = value

    def missed_wakeups(self, slot: int) -> int:
        """Wake-ups that the slot's process missed, as doorbell.py counts them."""
        return self.words[row_start(slot) + MISSED_WAKEUPS]

    def set_active_epoch(self, slot: int, epoch: int) -> None:
        """Stored by a controller that begins to decide, then it rings all; 0: by one that no longer does."""
        row = row_start(slot)
        if epoch:
            self.words[row + LAST_EPOCH] = epoch
        self.words[row + ACTIVE_EPOCH] = epoch
        news = slot << 32 | self.words[row + LAST_EPOCH]
        self.words[CONTROLLER_NEWS] = news if epoch else -news  # (R) last: who sees it finds the rest

    def active_controller(self, controllers: Iterable[int]) -> tuple[int, int]:
        """The slot of the controller that decides, and its epoch; 0, 0: none.

        (R) It is the one of the latest epoch that any ever decided in, be that one dead: a controller that
        lost its epoch, stood still and has yet to notice decides nothing more, and reaches nobody.
        """
        words = self.words
        found = latest = 0
        for slot in controllers:
            row = row_start(slot)
            epoch = words[row + LAST_EPOCH]
            if epoch > latest:
                is_live = words[row + INCARNATION] != words[row + DEAD_INCARNATION]
                found, latest = slot if is_live and words[row + ACTIVE_EPOCH] == epoch else 0, epoch
        return (found, latest) if found else (0, 0)
