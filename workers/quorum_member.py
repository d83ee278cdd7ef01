"""A controller's process: a member of the quorum, which decides for the host while it leads.

    stands by      keeps its copy of the log, and votes
    takes over     leads: asks every worker what it holds, and enters that (takeover.py)
    decides        see controller.py; what it says is held until the quorum has committed what it rests on (R)

One that leads no more ends: the process that comes in its place has nothing of what it had staged, and what
it said reaches nobody (R).
"""

from collections import deque

from tailrace.core.errors import KafkaError
from tailrace.core.log.directory import is_full
from tailrace.core.raft.messages import NO_LEADER
from tailrace.shm import state_table as rows
from tailrace.shm.ring import ByteConsumer
from tailrace.workers.control import Message, Raft
from tailrace.workers.control_quorum import AddVoter
from tailrace.workers.controller import Controller
from tailrace.workers.failed_dirs import check_own, probe_own
from tailrace.workers.log_dirs import is_broken
from tailrace.workers.metadata_follower import metadata_row
from tailrace.workers.metadata_log import open_metadata_log
from tailrace.workers.process import DiskLost, ProcessContext, Refusal
from tailrace.workers.quorum_requests import QuorumRequest, answer
from tailrace.workers.takeover import TakeOver

ROOM_S = 1.0  # between two looks whether a full disk has room for the metadata log
Heard = tuple[int, int, Message]


class Member:
    """See the module."""

    def __init__(self, context: ProcessContext) -> None:
        self._context = context
        self._is_first = is_first_of_run(context)
        probe_own(context)
        context.slots.set_long_operation(context.slot, 1)  # a log of any size is read
        self.log = open_metadata_log(context)
        context.slots.set_long_operation(context.slot, 0)
        if self._is_first and self.log.refused is not None:
            raise self.log.refused
        self._heard: deque[Heard] = deque()
        self._early: deque[tuple[int, int, AddVoter]] = deque()  # answered before they are committed
        self.take_over: TakeOver | None = None
        self.controller: Controller | None = None  # while it decides
        self._leads_in = 0
        self._is_ready = False

    def serve(self) -> None:
        """Until it is told to stop, or leads no more."""
        context = self._context
        while not context.stopping and self.turn():
            context.wait(self._wait_s())
        self._end()

    def turn(self) -> bool:
        """All that can be done now. False: it leads no more."""
        context = self._context
        self._listen()
        self.log.turn()
        if self._leads_in not in (0, self.log.epoch):
            if self.log.is_committed:  # the last that it did was to take its own vote away
                context.outbox.flush()
            return False
        self._answer_early()
        self._act()
        self.log.turn()
        if self.log.is_committed or not self._leads_in:
            context.outbox.flush()  # (R) nobody is told what is not committed
        context.links.drop_dead()
        self._say_ready()
        return True

    def _listen(self) -> None:
        context = self._context
        for slot, incarnation, ring in context.links.poll():
            assert isinstance(ring, ByteConsumer)
            for message in context.inbox.read(slot, incarnation, ring):
                if isinstance(message, Raft):
                    self.log.step(message)
                elif isinstance(message, AddVoter) and not message.ack_when_committed:
                    self._early.append((slot, incarnation, message))
                elif isinstance(message, QuorumRequest):
                    if self.log.epoch:  # else the next that leads is asked
                        answered = answer(self.log.quorum, message)
                        self._context.outbox.send(slot, answered, only=incarnation)
                elif self.log.epoch:
                    self._heard.append((slot, incarnation, message))

    def _answer_early(self) -> None:
        """Adds the voters whose answers wait for no commit. While others do, they leave together: one that
        is not committed never leaves with it (R).
        """
        context, log = self._context, self.log
        while self._early:
            slot, incarnation, message = self._early.popleft()
            if log.epoch:  # else the next that leads is asked
                may_leave = log.is_committed
                context.outbox.send(slot, answer(log.quorum, message), only=incarnation)
                if may_leave:
                    context.outbox.flush()

    def _take_heard(self) -> list[Heard]:
        """What has come in by now."""
        self._listen()
        heard = list(self._heard)
        self._heard.clear()
        return heard

    def _act(self) -> None:
        context, epoch = self._context, self.log.epoch
        if not epoch:
            check_own(context)
            return
        if not self._leads_in:
            self._leads_in = epoch
            # from now on the others speak to it: nothing is lost between its questions and their answers
            context.slots.set_active_epoch(context.slot, epoch)
            context.bells.ring_all()
            self.take_over = TakeOver(context, first_of_run=is_first_of_run(context))
            self.take_over.ask()
        if self.take_over is not None:
            self._continue_take_over(self.take_over)
        elif self.controller is not None and self.log.is_committed:
            context.outbox.flush()
            self.controller.turn()

    def _continue_take_over(self, take_over: TakeOver) -> None:
        for slot, incarnation, message in self._take_heard():
            take_over.take(slot, incarnation, message)
        if not take_over.is_done():
            return
        controller = Controller(self._context, self.log, self._take_heard)
        if controller.take_over(take_over):
            self.controller, self.take_over = controller, None
            self.log.mark_taken_over()
            controller.turn()

    def _say_ready(self) -> None:
        follows = self.log.quorum.leader_id not in (NO_LEADER, self._context.node_id)
        if not self._is_ready and (follows or self.controller is not None):
            self._is_ready = True
            self._context.ready()

    def _wait_s(self) -> float:
        wait_s = self.log.quorum.wait_s(3600.0)
        if self._early:
            return 0.0
        if self.take_over is not None:
            wait_s = min(wait_s, ROOM_S)
        if self.controller is not None and self.log.is_committed:
            wait_s = min(wait_s, self.controller.next_retry_s())
        return wait_s

    def _end(self) -> None:
        self._context.slots.set_active_epoch(self._context.slot, 0)
        if self._context.stopping:
            self.log.commit()
            self.log.quorum.resign()
        self.log.close()


def is_first_of_run(context: ProcessContext) -> bool:
    """Whether no controller has taken over since the brokers of this host were started together."""
    table = context.state_table
    return not any(
        table.read_word(metadata_row(index), rows.RECOVERY_POINT) for index in range(len(context.brokers))
    )


def run(context: ProcessContext) -> None:
    """DiskLost if the metadata log's disk fails, Refusal if it has no room for a broker to start."""
    first_of_run = is_first_of_run(context)
    try:
        Member(context).serve()
    except (OSError, KafkaError) as error:
        where = context.log_dirs.metadata_dir
        if first_of_run and is_full(error):
            raise Refusal(f"no room for the metadata log in {where}: make some, then start again") from error
        if not is_broken(error):
            raise
        raise DiskLost(
            f"the metadata log in {where} has failed ({error}): mend that and start the broker again"
        ) from error
