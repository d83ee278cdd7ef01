"""A gateway process, modelled: it knows leaders from Assigned, hands batches to workers, and hears of them.

What it is told that is committed counts as acknowledged to a client.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tailrace.core.errors import NONE
from tailrace.shm.links import DESCRIPTOR
from tailrace.shm.ring import DescriptorConsumer, DescriptorProducer
from tailrace.workers import control
from tailrace.workers.descriptors import (
    COMPLETIONS_MAX,
    ONCE_COMMITTED,
    PRODUCE,
    REQUESTS_MAX,
    arena_name,
    pack,
)
from tests.sim.cluster_context import Context

if TYPE_CHECKING:
    from tests.sim.cluster_host import Host

TopicPartition = tuple[bytes, int]
REQUESTS = 1024


class Gateway:
    """See the module. `sent`: by token, what a client waits for."""

    def __init__(self, host: "Host") -> None:
        self.host = host
        self.leaders: dict[TopicPartition, control.Assigned] = {}
        self.sent: dict[int, tuple[TopicPartition, int, int, bool, tuple[int, int]]] = {}
        self.results: list[control.Message] = []
        self._token = 0
        self._asked = (0, 0)

    def begin(self, context: Context) -> None:
        """It has its slot."""
        self.context = context
        self.batches = self.host.arenas[
            f"{context.run_dir}/{arena_name(context.slot, context.incarnation)}"
        ] = {}

    def turn(self) -> None:
        """Hear, then ask; or be busy with others for a while."""
        context, random = self.context, self.host.world.random
        if random.random() < 0.03:
            self.host.later(context.slot, random.randint(0, 100))
            return
        for slot, incarnation, ring in context.links.poll():
            if isinstance(ring, DescriptorConsumer):
                for entry in ring.pop_all():
                    self._complete(entry[1], entry[2], entry[3], entry[6])
                continue
            for message in context.inbox.read(slot, incarnation, ring):
                self._hear(slot, message)
        for peer in context.links.drop_dead():
            for token in [token for token, one in self.sent.items() if one[4] == peer]:
                del self.sent[token], self.batches[token]
        active = context.active_controller()
        if active != self._asked and active[0]:
            self._asked = active
            context.tell_controller(control.Hello())
        context.outbox.flush()
        self.host.later(context.slot, 100)

    def _hear(self, slot: int, message: control.Message) -> None:
        if not self.context.obeys(slot):
            return
        if isinstance(message, control.Assigned):
            key = (message.topic_id, message.partition)
            known = self.leaders.get(key)
            if known is None or known.leader_epoch <= message.leader_epoch:
                self.host.readers.check_assigned(message)
                self.leaders[key] = message
        elif isinstance(message, control.Unassigned):
            self.leaders.pop((message.topic_id, message.partition), None)
        else:
            self.results.append(message)

    def ask(self, message: control.Message) -> None:
        """The controller that decides."""
        self.context.tell_controller(message)
        self.context.outbox.flush()

    def produce(
        self, key: TopicPartition, batches: Sequence[tuple[int, int, bytes]], *, acks_all: bool
    ) -> None:
        """Numbers, counts of records and batches; nothing if its broker does not lead, as far as it knows."""
        context, leader = self.context, self.leaders.get(key)
        if leader is None or leader.broker != context.node_id:
            return
        peer = (leader.worker_slot, leader.worker_incarnation)
        ring = context.links.outgoing(leader.worker_slot, DESCRIPTOR, REQUESTS)
        if ring is None or not context.slots.is_live(*peer):
            return
        self._push(ring, leader, batches, acks_all)
        ring.publish()
        context.bells.ring(leader.worker_slot)

    def _push(
        self, ring: DescriptorProducer, leader: control.Assigned, batches: Sequence[tuple[int, int, bytes]],
        acks_all: bool,
    ) -> None:  # fmt: skip
        key, peer = (leader.topic_id, leader.partition), (leader.worker_slot, leader.worker_incarnation)
        for number, count, batch in batches:
            under_way = sum(1 for one in self.sent.values() if one[4] == peer)
            if under_way >= min(REQUESTS_MAX, COMPLETIONS_MAX):
                return
            self._token += 1
            wanted = ONCE_COMMITTED if acks_all else 0
            place = (leader.row, leader.row_generation, 0, self._token, len(batch))
            entry = pack(PRODUCE, self._token, *place, wanted)
            if not ring.try_push(entry):
                return
            self.batches[self._token] = batch
            self.host.readers.send(key, batch)
            self.sent[self._token] = (key, number, count, acks_all, peer)

    def _complete(self, token: int, error: int, base_offset: int, epoch: int) -> None:
        if token not in self.sent:  # a notice of a row
            return
        key, number, count, acks_all, _ = self.sent.pop(token)
        del self.batches[token]
        if error == NONE and acks_all:
            self.host.readers.acknowledge(key, base_offset + count, number, epoch)
