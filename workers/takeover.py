"""How a controller begins: its log, and what the workers that live hold.

At the first start of a run no worker lives and nothing is held. A controller that replaces a dead one finds
workers that go on serving: it asks each, and leaves alone what they hold in the committed leader epoch.
"""

from tailrace.shm import state_table as rows
from tailrace.shm.state_table import topic_id_bytes
from tailrace.workers.control import HeldReplica, Message, Replicas, ReportReplicas, StopReplica
from tailrace.workers.orders import Key
from tailrace.workers.process import ProcessContext


class TakeOver:
    """What a new controller finds. Messages that come while it asks are kept for later in `early`."""

    def __init__(self, context: ProcessContext, *, first_of_run: bool) -> None:
        self._context = context
        self.first_of_run = first_of_run
        live = {slot: context.slots.live_incarnation(slot) for slot in context.layout.all_workers()}
        self.incarnations = {slot: incarnation for slot, incarnation in live.items() if incarnation}
        self.early: list[tuple[int, int, Message]] = []
        self.quarantined: set[Key] = set()
        self.rows: dict[Key, int] = {}
        self.rows_of: dict[tuple[bytes, int], set[int]] = {}  # of a partition: all there ever were
        if not first_of_run:
            self._read_rows()
        self._answers: dict[int, list[HeldReplica]] = {}

    def _read_rows(self) -> None:
        """Which row each replica had, also one that resigned or is gone: who serves it next, or leads the
        partition, goes on from the high watermark there (R).
        """
        table = self._context.state_table
        newest: dict[Key, tuple[int, bool]] = {}
        for row in range(self._context.layout.brokers, table.rows):
            if not table.sequence(row):
                continue
            values = table.read(row)
            topic_id = topic_id_bytes(values[rows.TOPIC_ID_HI], values[rows.TOPIC_ID_LO])
            key = (topic_id, values[rows.PARTITION], self._context.owner_of(values[rows.OWNER] >> 32))
            self.rows_of.setdefault(key[:2], set()).add(row)
            age = (values[rows.LEADER_EPOCH], values[rows.ROLE] != rows.ROLE_NONE)
            if key not in newest or age >= newest[key]:
                newest[key] = age
                self.rows[key] = row
            by_controller = not values[rows.OWNER] & 0xFFFFFFFF  # a worker's own failure is tried again
            if values[rows.ROLE] == rows.ROLE_OFFLINE and by_controller:
                self.quarantined.add(key)

    def ask(self) -> None:
        """Every worker that lives; their answers come by `take`."""
        for slot in self.incarnations:
            self._context.outbox.send(slot, ReportReplicas())

    def take(self, slot: int, incarnation: int, message: Message) -> None:
        """An answer; anything else is kept for later."""
        if isinstance(message, Replicas) and self.incarnations.get(slot) == incarnation:
            self._answers[slot] = message.replicas
        else:
            self.early.append((slot, incarnation, message))

    def is_done(self) -> bool:
        """Whether every worker that lived when we began has said what it holds, or is dead."""
        return not any(
            self._context.slots.is_live(slot, incarnation)
            for slot, incarnation in self.incarnations.items()
            if slot not in self._answers
        )

    def held(self) -> dict[Key, tuple[int, HeldReplica]]:
        """What is held, by which worker slot. A second holder cannot be, and must not serve."""
        found: dict[Key, tuple[int, HeldReplica]] = {}
        for slot, replicas in self._answers.items():
            for held in replicas:
                key = (held.topic_id, held.partition, self._context.owner_of(slot))
                if key in found:
                    self._context.outbox.send(slot, _stop(held))
                else:
                    found[key] = (slot, held)
        return found


def _stop(held: HeldReplica) -> StopReplica:
    return StopReplica(
        topic=held.topic,
        topic_id=held.topic_id,
        partition=held.partition,
        row=held.row,
        row_generation=held.row_generation,
        log_dir=held.log_dir,
        delete=False,
    )
