"""The brokers of this host as the clients of one gateway are told of them: who is there, and who leads what.

A broker that is fenced, or whose gateway is not ready, is not there. The others' addresses are read again
when their gateway has another incarnation; a client is told of those that belong to the listener through
which it came.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from tailrace.core.listeners import Listener
from tailrace.core.protocol.messages.current_leader import CurrentLeader, NodeEndpoint
from tailrace.shm.slots import READY
from tailrace.workers.addresses import Addresses, read_addresses
from tailrace.workers.gateway.listener import UNIX

if TYPE_CHECKING:
    from tailrace.workers.gateway.connection import Connection
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.partitions import Partition

_EVERYWHERE = ("", "0.0.0.0", "::")
NOBODY = -1


class Endpoint(NamedTuple):
    """Where a client finds a broker."""

    node_id: int
    host: str
    port: int
    rack: str | None


class Brokers:
    """All of them, this gateway's own included."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._context = gateway.context
        self._known: dict[int, tuple[int, Addresses]] = {}  # by index: the incarnation that published them

    def listed(self, connection: Connection) -> list[Endpoint]:
        """Those that clients are told of, by id. Asked while the connection is open (R)."""
        ids = [broker.node_id for broker in self._context.brokers]
        return [found for node_id in ids if (found := self.endpoint(node_id, connection)) is not None]

    def fenced(self, connection: Connection) -> list[Endpoint]:
        """Those of this host that are registered and not there, where they were when they were, by id."""
        own = self._gateway.advertised(connection)
        found: list[Endpoint] = []
        for index, broker in enumerate(self._context.brokers):
            is_gone = broker.node_id in self._gateway.image.brokers and not self.is_there(broker.node_id)
            addresses = self._addresses(index) if is_gone else None
            if addresses is not None:
                place = self._place(index, addresses, own, connection)
                found.append(Endpoint(broker.node_id, *place, broker.config.rack))
        return found

    def endpoint(self, node_id: int, connection: Connection) -> Endpoint | None:
        """Where clients that came this way find that broker, None if it is not there."""
        context = self._context
        index = context.index_of(node_id)
        if index < 0 or not self.is_there(node_id):
            return None
        rack = context.brokers[index].config.rack
        own = self._gateway.advertised(connection)
        if index == context.broker:
            return Endpoint(node_id, *own, rack)
        found = self._addresses(index)
        return found and Endpoint(node_id, *self._place(index, found, own, connection), rack)

    def is_there(self, node_id: int) -> bool:
        """Whether its gateway serves and it is not fenced. This one's own is: who asks it has reached it."""
        context = self._context
        if node_id == context.node_id:
            return True
        registered = self._gateway.image.brokers.get(node_id)
        if registered is not None and registered.fenced:
            return False
        index = context.index_of(node_id)
        slot = context.layout.gateway(index)
        return index >= 0 and context.slots.live_incarnation(slot) != 0 and context.slots.state(slot) == READY

    def controller_id(self) -> int:
        """The broker that clients are sent to with what the controller decides: any would do."""
        slot, _ = self._context.active_controller()
        found = self._context.owner_of(slot)
        return found if slot and self.is_there(found) else self._context.node_id

    def leader_of(self, partition: Partition) -> int:
        """The broker that leads it now and is there, or NOBODY."""
        partitions = self._gateway.partitions
        known = partition.known
        if partitions.is_superseded(partition) or known is None:
            leader, _ = partitions.leadership(partition)
            return leader if self.is_there(leader) else NOBODY
        if partition.assigned is not None and not partitions.is_led(partition):
            return NOBODY
        is_live = self._context.slots.is_live(known.worker_slot, known.worker_incarnation)
        return known.broker if is_live and self.is_there(known.broker) else NOBODY

    def hint(self, partition: Partition) -> CurrentLeader | None:
        """Who leads it, for a client that was wrong about that (KIP-951)."""
        leader = self.leader_of(partition)
        _, epoch = self._gateway.partitions.leadership(partition)
        return None if leader == NOBODY else CurrentLeader(leader, epoch)

    def endpoints(
        self, leaders: Iterable[CurrentLeader | None], connection: Connection
    ) -> list[NodeEndpoint]:
        """Where those are that were hinted at."""
        if connection.closed:
            return []
        ids = sorted({leader.leader_id for leader in leaders if leader is not None})
        found = (self.endpoint(node_id, connection) for node_id in ids)
        return [NodeEndpoint(*endpoint) for endpoint in found if endpoint is not None]

    def _addresses(self, index: int) -> Addresses | None:
        incarnation = self._context.slots.live_incarnation(self._context.layout.gateway(index))
        known, found = self._known.get(index, (0, None))
        if found is None or known != incarnation:
            try:
                found = read_addresses(self._context.run_dir, index)
            except FileNotFoundError:
                return None
            self._known[index] = (incarnation, found)
        return found

    def _place(
        self, index: int, addresses: Addresses, own: tuple[str, int], connection: Connection
    ) -> tuple[str, int]:
        config = self._context.brokers[index].config
        if config.advertised_mode == "fixed":
            advertised = config.advertised_listeners[0]
            return advertised.host, advertised.port or addresses.listeners[0].port
        mine = self._listener_of(connection)
        number = mine[0] if mine[0] < len(addresses.listeners) else 0
        other = addresses.listeners[number]
        if other.host in _EVERYWHERE or other.host == mine[1].host:
            return own[0], other.port
        return other.host, other.port

    def _listener_of(self, connection: Connection) -> tuple[int, Listener]:
        bound = self._gateway.bound
        if connection.peer != UNIX:
            port = connection.sock.getsockname()[1]
            for number, listener in enumerate(bound):
                if listener.port == port:
                    return number, listener
        return 0, bound[0]
