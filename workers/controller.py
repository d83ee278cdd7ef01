"""The controller: decides for all brokers of the host, writes the decision to the metadata log, and only then
tells anybody.

One turn of its loop takes all that has come in, stages records, syncs them once, publishes the commit, and
flushes the messages that depend on them. A controller that dies has therefore told nobody what is not on
disk; its successor replays the log and asks the workers what they hold.
"""

import time
from collections.abc import Callable, Sequence

from tailrace.shm import state_table as rows
from tailrace.shm.slots import STOPPING, SUPERVISOR_SLOT
from tailrace.workers.assignments import Assignments
from tailrace.workers.balance import Balance
from tailrace.workers.beginning import Beginning
from tailrace.workers.changes import Changes
from tailrace.workers.control import (
    AlterPartition,
    Hello,
    Message,
    ReplicaFailed,
    Replicas,
    ReplicaStarted,
    ReplicaStopped,
    Resigned,
    ShutDownBroker,
    WorkerDied,
)
from tailrace.workers.control_moves import CopyMade, MoveEnded
from tailrace.workers.dir_moves import DirMoves
from tailrace.workers.failed_dirs import FailedDirs
from tailrace.workers.gateway_requests import GatewayRequest, GatewayRequests
from tailrace.workers.losses import Losses
from tailrace.workers.metadata_log import MetadataLog
from tailrace.workers.presence import Presence
from tailrace.workers.process import ProcessContext
from tailrace.workers.proposals import Proposals
from tailrace.workers.takeover import TakeOver

Hear = Callable[[], Sequence[tuple[int, int, Message]]]
"""What has come in since the last call: from which slot and incarnation."""


class Controller:
    """While its process leads the quorum."""

    def __init__(self, context: ProcessContext, log: MetadataLog, hear: Hear) -> None:
        self._context = context
        self._hear = hear
        self._log = log
        self._lagging: set[int] = set()
        table = context.state_table
        self.assignments = Assignments(
            row_count=table.rows,
            layout=context.layout,
            first_id=context.brokers[0].node_id,
            generation=lambda row: table.read_word(row, rows.ROW_GENERATION),
            send=self._send,
            is_there=lambda node_id: self.presence.is_there(node_id),
        )
        self.changes = Changes(context, log, self.assignments)
        self._losses = Losses(context, self.changes, self.assignments)
        self._moves = DirMoves(context, self.changes, self.assignments, self._losses.serve_again)
        self._requests = GatewayRequests(context, self.changes, self.assignments, self._moves)
        self._failed_dirs = FailedDirs(context, self.changes, self.assignments)
        self.presence = Presence(context, self.changes, self.assignments)
        self._proposals = Proposals(context, self.changes, self.assignments)
        self._balance = Balance(context, self.changes, time.monotonic())
        self._worker_slots = context.layout.all_workers()
        self._known = dict.fromkeys(self._worker_slots, 0)

    def take_over(self, found: TakeOver) -> bool:
        """Begin with what the log says and what the workers that live hold; see `Beginning.take_over`."""
        self._known.update(found.incarnations)
        beginning = Beginning(self._context, self._log, self.changes, self.assignments)
        if not beginning.take_over(found):
            return False
        self.changes.throttle()
        self._moves.resume(beginning.unfinished)
        for slot, incarnation, message in found.early:
            self._take(slot, incarnation, message)
        return True

    def turn(self) -> None:
        """Everything that has come in, and everything that follows from it."""
        # before the frames: a death in the slot table has its WorkerDied in the ring (R)
        dead = self._find_dead()
        for slot, incarnation, message in self._hear():
            self._take(slot, incarnation, message)
        if self._context.slots.state(SUPERVISOR_SLOT) != STOPPING:
            self._losses.bury(dead)
            self._failed_dirs.look()
            self.presence.look()
            self.changes.look()
            self._losses.settle()
            self._losses.retry_due()
            self._balance.look(time.monotonic())
        for slot in self._worker_slots:
            if self._known[slot]:
                self.assignments.serve_slot(slot, self._known[slot])
        self._catch_up_lagging()

    def next_retry_s(self) -> float:
        """Seconds until there is something to do without being told."""
        now_s = time.monotonic()
        return self._losses.retries.wait_s(now_s, self._balance.wait_s(now_s))

    def _send(self, slot: int, message: Message, *, only: int = 0) -> bool:
        sent = self._context.outbox.send(slot, message, only=only)
        if not sent and slot in self.assignments.gateways and self._context.slots.live_incarnation(slot):
            self._lagging.add(slot)
        return sent

    def _catch_up_lagging(self) -> None:
        """A gateway that let too much pile up has missed something: it hears everything again once it has
        read on.
        """
        for slot in [slot for slot in self._lagging if self._context.outbox.is_empty(slot)]:
            self._lagging.discard(slot)
            self.assignments.tell_gateway(slot)

    def _find_dead(self) -> list[int]:
        """Worker slots whose known incarnation is dead. New incarnations become known."""
        dead: list[int] = []
        for slot in self._worker_slots:
            incarnation = self._context.slots.live_incarnation(slot)
            if incarnation == self._known[slot]:
                continue
            if self._known[slot]:
                dead.append(slot)
            self._known[slot] = incarnation
        return dead

    def _take(self, slot: int, incarnation: int, message: Message) -> None:
        assignments = self.assignments
        match message:
            case ReplicaStarted():
                if assignments.on_started(slot, incarnation, message):
                    self._losses.retries.forget(message.row)
            case AlterPartition():
                self._proposals.take(slot, incarnation, message)
            case CopyMade():
                self._moves.on_copied(slot, incarnation, message)
            case MoveEnded():
                self._moves.on_ended(slot, incarnation, message)
            case Resigned():
                self.changes.on_resigned(slot, incarnation, message)
            case ReplicaFailed():
                self._losses.on_failed(slot, incarnation, message)
            case ReplicaStopped():
                assignments.on_stopped(slot, incarnation, message.row, message.row_generation)
            case _ if isinstance(message, GatewayRequest):
                self._requests.take(slot, incarnation, message)
            case Hello():
                assignments.tell_gateway(slot)
            case WorkerDied():
                self._losses.note_death(message)
            case ShutDownBroker():
                self.presence.shut_down(message.broker)
            case Replicas():
                pass  # asked for by TakeOver, answered twice by a worker that was slow
            case _:
                raise AssertionError(f"{type(message).__name__} is not for a controller")
