"""The gateway's loop: sockets, rings, timers; each request goes to its handler.

One turn: read sockets and push entries to the workers; publish and ring; take completions; send answers.
"""

import os
import time
from select import EPOLLET, EPOLLIN, epoll

from tailrace.core.errors import KafkaError, ProtocolError
from tailrace.core.fetch_sessions import FetchSessions
from tailrace.core.listeners import Listener, address_text
from tailrace.core.metadata.image import TopicImage
from tailrace.core.protocol.apis import API_VERSIONS, APIS
from tailrace.core.protocol.frames import parse_request_header
from tailrace.core.timers import Timers
from tailrace.shm.doorbell import LONG, USUAL
from tailrace.shm.ring import DescriptorConsumer
from tailrace.shm.slots import CONTROLLER_NEWS, DEATH_COUNT, PROGRESS, STOPPING, row_start
from tailrace.shm.waiters import waiter_of_broker
from tailrace.workers import control
from tailrace.workers.addresses import Addresses, publish_addresses
from tailrace.workers.control import Assigned, Unassigned
from tailrace.workers.control_quorum import QuorumDescribed, VotersChanged
from tailrace.workers.descriptors import ROW_ADVANCED
from tailrace.workers.gateway.asks import Asks
from tailrace.workers.gateway.broker_configs import broker_configs
from tailrace.workers.gateway.brokers import Brokers
from tailrace.workers.gateway.buffers import Buffers
from tailrace.workers.gateway.cold_reads import ColdReads
from tailrace.workers.gateway.connection import Connection
from tailrace.workers.gateway.controller_requests import ControllerRequests
from tailrace.workers.gateway.coordinators import Coordinators
from tailrace.workers.gateway.doorkeeper import Doorkeeper
from tailrace.workers.gateway.listener import (
    UNIX,
    listen_tcp,
    listen_unix,
    remember_port,
    remembered_port,
)
from tailrace.workers.gateway.long_polls import LongPolls
from tailrace.workers.gateway.outstanding import Outstanding
from tailrace.workers.gateway.partitions import Partitions
from tailrace.workers.gateway.produce_timeouts import ProduceTimeouts
from tailrace.workers.gateway.request import Request
from tailrace.workers.gateway.router import HANDLERS
from tailrace.workers.metadata_follower import MetadataFollower
from tailrace.workers.process import ProcessContext

DRAIN_MS = 2000
SMALL_REQUEST_BYTES_MAX = 4 * 1024 * 1024  # of every request but Produce: decoding costs time per byte
LOOK_AGAIN_S = 0.1  # while descriptors are short: most often one is free because a client went


class Gateway:
    """All that one broker's clients meet."""

    def __init__(self, context: ProcessContext) -> None:
        self.context = context
        self._words, self._progress = context.slots.words, row_start(context.slot) + PROGRESS
        self.config = context.config
        self.epoll = epoll()
        self.timers = Timers()
        self.cold_reads = ColdReads(context.doorbell.wake)
        self.outstanding = Outstanding(context.links, context.slots)
        self.produce_timeouts = ProduceTimeouts(self)
        self.asks = Asks(self)
        self.coordinators = Coordinators(self)
        self.follower = MetadataFollower.of(context)
        self.image = self.follower.image
        self.brokers = Brokers(self)
        self.partitions = Partitions(
            context.slots,
            context.state_table,
            self.cold_reads,
            context.node_id,
            self.image,
            self.brokers.is_there,
        )
        self.controller = ControllerRequests(self)
        self.waiter = waiter_of_broker(context.broker)
        self.long_polls = LongPolls(self)
        self.fetch_sessions = FetchSessions(
            context.config.max_incremental_fetch_session_cache_slots,
            first_id=int.from_bytes(os.urandom(4), "big") & 0x7FFFFFFF,
        )
        self.request_bytes_max = context.config.socket_request_max_bytes
        self.unflushed: set[Connection] = set()
        self.starved: dict[Connection, None] = {}  # in the order in which they came to be
        self.unfinished: set[Connection] = set()  # have had their share of this turn
        self.connections: dict[int, Connection] = {}
        self.bound: tuple[Listener, ...] = ()  # its listeners, with the ports that they have
        self.tcp_address = ("127.0.0.1", 0)
        self._doorkeeper = Doorkeeper(self, self.epoll)
        self._listeners = self._doorkeeper.listeners
        self._controller = (0, 0)  # the slot of the one that was met, and its epoch
        self._news = (0, 0)  # of controllers and deaths, when that was looked at

    # -- start and end

    def open(self) -> None:
        """Bind the listeners; Refusal when one cannot be."""
        self.buffers = Buffers(self.context)
        self.context.waiters.clear_waiter(self.waiter)
        self.epoll.register(self.context.eventfd, EPOLLIN | EPOLLET)  # never read: each ring is an edge
        backlog = self.config.socket_listen_backlog_size
        run_dir, broker = self.context.run_dir, self.context.broker
        bound: list[Listener] = []
        for listener in self.config.listeners:
            port = listener.port or remembered_port(run_dir, broker, listener.name)
            sock = listen_tcp(listener, port, backlog)
            bound.append(listener._replace(port=sock.getsockname()[1]))
            if not listener.port:
                remember_port(run_dir, broker, listener.name, bound[-1].port)
            self._listeners.add(sock)
        self.bound = tuple(bound)
        self.tcp_address = (_reachable(bound[0].host), bound[0].port)
        unix = self.config.unix_socket_path
        unix = f"{run_dir}/broker-{broker}.sock" if unix is None else unix
        if unix:
            self._listeners.add(listen_unix(unix, self.config.unix_socket_mode, backlog))
        host, port = self.tcp_address
        publish_addresses(run_dir, broker, Addresses(address_text(host, port), unix, self.bound))
        self.follower.poll()
        self._on_configs()
        self._meet_controller()
        self._doorkeeper.open()

    def close(self) -> None:
        """Close every client and give the memory back."""
        for connection in list(self.connections.values()):
            connection.close()
        self.buffers.close()

    # -- the loop

    def serve(self) -> None:
        """Turn until a stop is asked for."""
        while not self.context.stopping:
            self._turn()

    def drain(self) -> None:
        """Answer what is under way, for a bounded time, taking nothing new."""
        self.context.slots.set_state(self.context.slot, STOPPING)  # clients are not sent here any more
        self._listeners.close()
        deadline = self.now_ms() + DRAIN_MS
        self.long_polls.finish_all()
        while self.now_ms() < deadline and self._owes():
            self._turn_once(0.01)

    def _owes(self) -> bool:
        return (
            self.outstanding.count > 0
            or self.cold_reads.under_way > 0
            or any(connection.out for connection in self.connections.values())
        )

    def _turn(self) -> None:
        if self._listeners.is_short:
            self._listeners.look_again()
        if self.unfinished:
            self._handle(self.epoll.poll(0))
            return
        events = self.context.linger(self.epoll.poll, LONG if self.outstanding.is_waiting else USUAL)
        if events is not None:
            self._handle(events)
            return
        deadline = self.timers.next_deadline_ms()
        timeout = None if deadline is None else max(0.0, (deadline - self.now_ms()) / 1000)
        if self.partitions.waiting:
            timeout = min(0.01, timeout or 0.01)
        if self._listeners.is_short:
            timeout = min(LOOK_AGAIN_S, LOOK_AGAIN_S if timeout is None else timeout)
        self._turn_once(timeout)

    def _turn_once(self, timeout: float | None) -> None:
        self._handle(self.context.park(self.epoll.poll, timeout))

    def _handle(self, events: list[tuple[int, int]]) -> None:
        """One turn, with what epoll saw."""
        self._words[self._progress] += 1
        unfinished, self.unfinished = self.unfinished, set()
        connections = self.connections
        for fd, event in events:
            connection = connections.get(fd)
            if connection is not None:
                connection.on_event(event)
            elif fd in self._listeners:
                self._listeners.on_event(fd)
        for connection in unfinished:
            connection.take_requests()
        self._publish()
        if self.context.links.has_work():
            self._take_messages()
        self._follow()
        if self.partitions.waiting:
            self.partitions.send_held()
        if self.cold_reads.under_way:
            self.cold_reads.take()
        self.timers.run_due(self.now_ms())
        self._flush()
        self._publish()

    def _show(self) -> None:
        """Have the workers begin while this run goes on: a client's requests come in runs, too, and would
        otherwise be received, appended and answered without any two of these going on at once.
        """
        slots = self.outstanding.show()
        if slots:
            self.context.bells.ring_many(slots)

    def _publish(self) -> None:
        slots = self.outstanding.publish()
        if slots:
            self.context.bells.ring_many(slots)
        self.context.outbox.flush()

    def _flush(self) -> None:
        while self.unflushed:
            unflushed, self.unflushed = self.unflushed, set()
            for connection in unflushed:
                connection.flush()
        if self.starved:
            self.feed_starved()
            if self.starved:
                self._doorkeeper.memory_is_short()

    def feed_starved(self) -> None:
        """Let those go on that found no memory to receive into."""
        starved, self.starved = self.starved, {}
        for connection in starved:
            connection.on_memory()

    def _take_messages(self) -> None:
        for slot, incarnation, ring in self.context.links.poll():
            if isinstance(ring, DescriptorConsumer):
                for entry in ring.pop_all():
                    if entry[0] == ROW_ADVANCED:
                        self.long_polls.on_row_advanced(entry[1])
                    else:
                        self.outstanding.complete(slot, incarnation, entry)
            else:
                for message in self.context.inbox.read(slot, incarnation, ring):
                    if self.context.obeys(slot) or not isinstance(message, Assigned | Unassigned):
                        self._on_message(message)
        for slot, incarnation in self.context.links.drop_dead():
            self.outstanding.fail_dead(slot, incarnation)

    def _on_message(self, message: control.Message) -> None:
        match message:
            case Assigned():
                partition = self.partitions.get(message.topic, message.topic_id, message.partition)
                former = partition.place
                self.partitions.on_assigned(message)
                if former is not None and partition.place is not None and former.row == partition.place.row:
                    self.long_polls.on_row_advanced(former.row)
                else:
                    self.long_polls.on_partition_changed(partition)
                if partition.held:
                    self.partitions.waiting.add(partition)
            case Unassigned():
                self._follow()  # what it follows from is committed: a topic that is gone is found no more
                partition_gone = self.partitions.on_unassigned(message, self.topic(message.topic_id))
                if partition_gone is not None:
                    self.long_polls.on_partition_changed(partition_gone)
            case (
                control.TopicResults()
                | control.ConfigResults()
                | control.PartitionResults()
                | control.ProducerIds()
                | QuorumDescribed()
                | VotersChanged()
            ):
                self.controller.on_message(message)
            case _:
                raise AssertionError(f"no gateway is told {type(message).__name__}")

    def _follow(self) -> None:
        if self.follower.poll():
            self._on_configs()
            self.controller.on_image_moved()
        words = self._words
        if (words[CONTROLLER_NEWS], words[DEATH_COUNT]) != self._news:
            self._look_for_controller()

    def _on_configs(self) -> None:
        self.config = broker_configs(self).effective
        self._doorkeeper.on_configs()

    def _look_for_controller(self) -> None:
        self._news = (self._words[CONTROLLER_NEWS], self._words[DEATH_COUNT])  # before the look
        if self.context.active_controller() != self._controller:
            self._meet_controller()

    def _meet_controller(self) -> None:
        self._controller = self.context.active_controller()
        self.context.tell_controller(control.Hello())
        self.controller.on_controller_changed()

    # -- clients

    def forget(self, connection: Connection) -> None:
        """A connection closes."""
        del self.connections[connection.fd]
        self._doorkeeper.on_gone(connection)
        self.epoll.unregister(connection.fd)
        self.unflushed.discard(connection)
        self.starved.pop(connection, None)
        self.unfinished.discard(connection)
        self.long_polls.forget(connection)

    def on_frame(self, connection: Connection, position: int, end: int) -> None:
        """One whole frame: to its handler. Malformed, or in a version not served: the connection closes."""
        block = connection.block
        assert block is not None
        request = None
        try:
            key, version, correlation_id, client_id, body = parse_request_header(block.map, position, end)
            api = APIS[key]
            if not api.serves(version) and key != API_VERSIONS:
                raise ProtocolError(f"{api.name} version {version} is not served")
            if end - position > SMALL_REQUEST_BYTES_MAX and key != 0:
                raise ProtocolError(f"{api.name} of {end - position} bytes")
            request = Request(connection, api, version, correlation_id, client_id, body, end)
            connection.requests.append(request)
            HANDLERS[key](self, request)
            self._show()
        except (ProtocolError, KafkaError):
            connection.hang_up(request)

    def topic(self, name_or_id: str | bytes) -> TopicImage | None:
        """The topic of this name or id, None if there is none."""
        if isinstance(name_or_id, str):
            return self.image.topics_by_name.get(name_or_id)
        return self.image.topics_by_id.get(name_or_id)

    def advertised(self, connection: Connection) -> tuple[str, int]:
        """Where clients that came this way find this broker."""
        config = self.config
        if config.advertised_mode == "fixed":
            listener = config.advertised_listeners[0]
            return listener.host, listener.port or self.tcp_address[1]
        if connection.peer == UNIX:
            return self.tcp_address
        host, port = connection.sock.getsockname()[:2]
        return host.removeprefix("::ffff:"), port

    @staticmethod
    def now_ms() -> int:
        """A clock that never goes back."""
        return time.monotonic_ns() // 1_000_000


def _reachable(host: str) -> str:
    """An address at which this machine reaches a listener on `host`."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
