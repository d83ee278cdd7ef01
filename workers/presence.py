"""Which brokers of the host are there: one whose processes are all dead is fenced, with what it led given to
others; one that serves again registers anew and is unfenced; one that is to stop hands over first.

(R) A broker is fenced, and leaders taken from it, only when every process of it is proven dead: nothing it
might still acknowledge is lost by that. So it is looked at in the slot table, each time anew. It may be back
before anybody has looked: it registers under the name of its life (`SlotTable.life`), and one that lives
another life than the registered one is fenced first, and told nothing until then.
"""

from contextlib import suppress

from tailrace.core.errors import KafkaError
from tailrace.core.metadata.brokers import Registration, fence, register, shut_down, unfence
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import Record
from tailrace.shm.slots import READY, STOPPING, SUPERVISOR_SLOT
from tailrace.workers.assignments import Assignments
from tailrace.workers.changes import Changes
from tailrace.workers.control import BrokerMayStop
from tailrace.workers.process import Broker, ProcessContext


class Presence:
    """What the controller does about brokers that go and come."""

    def __init__(self, context: ProcessContext, changes: Changes, assignments: Assignments) -> None:
        self._context = context
        self._changes = changes
        self._assignments = assignments

    def look(self) -> None:
        """Stage what has changed since the last look; what a full disk refuses is found again at the next."""
        if self._context.slots.state(SUPERVISOR_SLOT) == STOPPING:
            return  # all are stopped: nobody is reassigned, and the next start finds them as they were
        brokers = list(enumerate(self._context.brokers))
        # Those that are not back first: where all in sync have died, one that is back stays so, and leads.
        for index, broker in sorted(brokers, key=lambda each: not self._is_dead(each[0])):
            with suppress(KafkaError):
                self._fence_if_gone(index, broker.node_id)
        for index, broker in brokers:
            known = self._changes.image.brokers.get(broker.node_id)
            with suppress(KafkaError):
                if (known is None or known.fenced) and self._serves(index):
                    self._welcome(index, broker)

    def _fence_if_gone(self, index: int, node_id: int) -> None:
        image, rules = self._changes.image, self._changes.rules()
        known = image.brokers.get(node_id)
        if known is None or known.fenced:
            return
        if self._is_dead(index) or not self.is_there(node_id):
            self._changes.stage(fence(image, node_id, rules))

    def is_there(self, node_id: int) -> bool:
        """Whether the broker is registered as it lives now, and not fenced."""
        known, context = self._changes.image.brokers.get(node_id), self._context
        if known is None or known.fenced:
            return False
        return known.incarnation_id == incarnation_id(context, context.index_of(node_id))

    def _welcome(self, index: int, broker: Broker) -> None:
        """It starts as a new one (R): in sync nowhere where another broker is. What failed there is tried
        again.
        """
        changes, node_id = self._changes, broker.node_id
        asked = registration_of(self._context, index)
        changes.stage(register(changes.image, asked, changes.rules(), known_lives=False).records)
        self._revive(broker)
        changes.stage(unfence(changes.image, node_id, changes.rules()))

    def _revive(self, broker: Broker) -> None:
        for key in [key for key in self._assignments.offline if key[2] == broker.node_id]:
            replica = self._assignments.by_key[key]
            if broker.log_dirs.is_online(replica.log_dir):
                self._assignments.revive(replica)

    def shut_down(self, node_id: int) -> None:
        """It is about to stop: others lead in its place, then it may."""

        def decide(image: MetadataImage) -> tuple[list[Record], None]:
            broker = image.brokers.get(node_id)
            if broker is None or broker.fenced:
                return [], None
            return shut_down(image, node_id, broker.broker_epoch, self._changes.rules()), None

        def done(_result: None, error: KafkaError | None) -> None:
            if error is None:
                self._context.outbox.send(SUPERVISOR_SLOT, BrokerMayStop(broker=node_id))

        self._changes.replace(decide, done)

    def _serves(self, index: int) -> bool:
        slots, slot = self._context.slots, self._context.layout.gateway(index)
        return slots.live_incarnation(slot) != 0 and slots.state(slot) == READY

    def _is_dead(self, index: int) -> bool:
        slots, layout = self._context.slots, self._context.layout
        if not slots.incarnation(layout.gateway(index)):
            return False  # the host is being started
        fixed = (layout.controller(index), layout.gateway(index), layout.housekeeper(index))
        return not any(slots.live_incarnation(slot) for slot in (*fixed, *layout.workers(index)))


def incarnation_id(context: ProcessContext, index: int) -> bytes:
    """The name of a broker's present life, the same whoever asks; no other has it, in any run."""
    pid, chance = context.run_dir.split("-")[-2:]
    return bytes.fromhex(chance) + int(pid).to_bytes(4, "big") + context.slots.life(index).to_bytes(8, "big")


def registration_of(context: ProcessContext, index: int) -> Registration:
    """How a broker that starts now introduces itself."""
    broker = context.brokers[index]
    return Registration(
        broker_id=broker.node_id,
        incarnation_id=incarnation_id(context, index),
        listeners=(),
        log_dirs=tuple(log_dir.directory_id for log_dir in broker.log_dirs.online() if log_dir.directory_id),
        rack=broker.config.rack,
    )
