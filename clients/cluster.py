"""The brokers of a cluster and who leads what, kept up to date by Metadata.

Reached over a Unix socket, a broker still advertises a TCP address to everybody: while the cluster has
one broker, its address is mapped back to the socket that was given.
"""

import time
from collections.abc import Iterable, Sequence

from tailrace.clients.connection import CLIENT_ID, DEFAULT_TIMEOUT_S, Connection, UnreachableError
from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.listeners import address_text
from tailrace.core.protocol.apis import FIND_COORDINATOR, METADATA
from tailrace.core.protocol.messages.find_coordinator import (
    GROUP,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from tailrace.core.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseTopic,
)

RETRY_PAUSE_S = 0.1


class Cluster:
    """Connections to the brokers behind a bootstrap list, one a broker."""

    def __init__(
        self, bootstrap: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, client_id: str = CLIENT_ID
    ) -> None:
        self._bootstrap = [address.strip() for address in bootstrap.split(",") if address.strip()]
        if not self._bootstrap:
            raise UnreachableError("no bootstrap address is given")
        self.timeout_s = timeout_s
        self._client_id = client_id
        self._connections: dict[str, Connection] = {}
        self._nodes: dict[int, str] = {}
        self._coordinators: dict[str, int] = {}  # of groups
        self.topics: dict[str, MetadataResponseTopic] = {}

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def any_connection(self) -> Connection:
        """A connection to any broker; UnreachableError when none can be reached."""
        for connection in self._connections.values():
            if connection.is_open:
                return connection
        failure = UnreachableError("no broker is known")
        for address in self._bootstrap + list(self._nodes.values()):
            try:
                return self._open(address)
            except UnreachableError as error:
                failure = error
        raise failure

    def metadata(self, names: Sequence[str] | None, *, create: bool = False) -> MetadataResponse:
        """Ask for topics by name, or for all (None), and remember the answer."""
        topics = None if names is None else [MetadataRequestTopic(name=name) for name in names]
        request = MetadataRequest(topics, create)
        response = self.any_connection().request(METADATA, request, MetadataResponse)
        if response.error_code:
            raise KafkaError(response.error_code, "Metadata was refused")
        self._nodes = {node.node_id: address_text(node.host, node.port) for node in response.brokers}
        if len(self._nodes) == 1 and self._bootstrap[0].startswith("unix:"):
            self._nodes = dict.fromkeys(self._nodes, self._bootstrap[0])
        for topic in response.topics:
            if topic.name is not None:
                self.topics[topic.name] = topic
        return response

    def topic(self, name: str, *, create: bool = False, expected: bool = False) -> MetadataResponseTopic:
        """A topic whose partitions all have leaders, waiting up to the timeout; KafkaError without.

        An unknown topic is waited for if it is `expected`: brokers learn of a new one in their time.
        """
        deadline_s = time.monotonic() + self.timeout_s
        while True:
            self.metadata([name], create=create)
            topic = self.topics[name]
            codes = [topic.error_code, *(partition.error_code for partition in topic.partitions)]
            failure = next((code for code in codes if code), errors.NONE)
            if failure == errors.NONE:
                return topic
            unknown = failure == errors.UNKNOWN_TOPIC_OR_PARTITION and not (create or expected)
            if unknown or not errors.is_retriable(failure) or time.monotonic() > deadline_s:
                raise KafkaError(failure, f"topic {name}")
            time.sleep(RETRY_PAUSE_S)

    def leader(self, topic: str, partition: int) -> Connection:
        """A connection to the partition's leader."""
        known = self.topics.get(topic)
        if known is None or known.error_code or any(part.error_code for part in known.partitions):
            known = self.topic(topic)
        for candidate in known.partitions:
            if candidate.partition_index == partition:
                address = self._nodes.get(candidate.leader_id)
                if address is None:
                    raise KafkaError(errors.LEADER_NOT_AVAILABLE, f"{topic}-{partition}")
                return self._open(address)
        raise KafkaError(errors.UNKNOWN_TOPIC_OR_PARTITION, f"topic {topic} has no partition {partition}")

    def by_leader(self, topic: str, partitions: Iterable[int]) -> dict[Connection, list[int]]:
        """Each leader with those of the partitions that it leads."""
        indexes: dict[Connection, list[int]] = {}
        for index in partitions:
            indexes.setdefault(self.leader(topic, index), []).append(index)
        return indexes

    def brokers(self) -> list[Connection]:
        """A connection to every broker."""
        self.metadata([])
        return [self._open(address) for address in self._nodes.values()]

    def coordinator(self, group: str) -> Connection:
        """A connection to the broker that coordinates a group, waiting up to the timeout until one does."""
        deadline_s = time.monotonic() + self.timeout_s
        while group not in self._coordinators:
            request = FindCoordinatorRequest(key_type=GROUP, coordinator_keys=[group])
            response = self.any_connection().request(FIND_COORDINATOR, request, FindCoordinatorResponse)
            found = response.coordinators[0]
            if not found.error_code:
                self._coordinators[group] = found.node_id
            elif not errors.is_retriable(found.error_code) or time.monotonic() > deadline_s:
                raise KafkaError(found.error_code, found.error_message or f"group {group}")
            else:
                time.sleep(RETRY_PAUSE_S)
        if self._coordinators[group] not in self._nodes:
            self.metadata([])
        address = self._nodes.get(self._coordinators[group])
        if address is None:
            raise KafkaError(errors.COORDINATOR_NOT_AVAILABLE, f"group {group}")
        return self._open(address)

    def forget_coordinator(self, group: str) -> None:
        """Ask again who coordinates this group before it is asked next."""
        self._coordinators.pop(group, None)

    def forget(self, topic: str) -> None:
        """Ask again who leads this topic before it is used next."""
        self.topics.pop(topic, None)

    def _open(self, address: str) -> Connection:
        connection = self._connections.get(address)
        if connection is None or not connection.is_open:
            connection = Connection(address, timeout_s=self.timeout_s, client_id=self._client_id)
            self._connections[address] = connection
        return connection
