"""Which replica a consumer shall read instead of the leader (KIP-392), by Kafka's RackAwareReplicaSelector.

Nothing is remembered: the rows of the replicas say how far each of them is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.config_keys import RACK_AWARE_SELECTOR
from tailrace.shm.state_table import LOG_END_OFFSET, LOG_START_OFFSET, ROLE, ROLE_FOLLOWER, ROLE_LEADER, Row

if TYPE_CHECKING:
    from tailrace.core.fetch_sessions import FetchPartition
    from tailrace.workers.control import ReplicaPlace
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.partitions import Partition
    from tailrace.workers.gateway.request import Request


def preferred_replica(
    gateway: Gateway, partition: Partition, row: Row, request: Request, rack: str, asked: FetchPartition
) -> int | None:
    """The broker to which a client in this rack is sent, None: it is served here. Only a leader (`row` is
    its row) outside of the rack sends away: to the follower in sync there which has most of the log.
    """
    assigned, own = partition.assigned, gateway.context.node_id
    if row[ROLE] != ROLE_LEADER or assigned is None or request.connection.closed:
        return None
    config = gateway.context.config
    if config.replica_selector_class != RACK_AWARE_SELECTOR or config.rack == rack:
        return None
    committed = gateway.image.partition(partition.topic_id, partition.partition)
    in_sync = () if committed is None else committed.isr
    found: list[tuple[int, int]] = []
    for place in assigned.replicas:
        if place.broker in in_sync and place.broker != own:
            endpoint = gateway.brokers.endpoint(place.broker, request.connection)
            end = _end_of(gateway, place, asked.fetch_offset)
            if end is not None and endpoint is not None and endpoint.rack == rack:
                found.append((end, place.broker))
    return max(found)[1] if found else None


def _end_of(gateway: Gateway, place: ReplicaPlace, offset: int) -> int | None:
    """Where the log of a follower ends, None if it does not hold the offset."""
    row = gateway.partitions.read_place(place)
    if row is None or row[ROLE] != ROLE_FOLLOWER:
        return None
    return row[LOG_END_OFFSET] if row[LOG_START_OFFSET] <= offset <= row[LOG_END_OFFSET] else None
