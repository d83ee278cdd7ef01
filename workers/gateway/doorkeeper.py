"""Who is let in, and who has to go: too many, idle for too long, or holding memory that others wait for."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import partial
from select import epoll
from typing import TYPE_CHECKING

from tailrace.core.connection_quotas import OVERRIDES, UNTIL_ONE_GOES, ConnectionQuotas
from tailrace.workers.background import Background
from tailrace.workers.gateway.connection import Connection
from tailrace.workers.gateway.listener import UNIX, Listeners
from tailrace.workers.say import say

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway

IDLE_CHECK_MS = 5000  # at most; four times in connections.max.idle.ms, but not more than ten times a second
IDLE_CHECK_MS_MIN = 100
SHORT_CHECK_MS = 50
SHORT_MS = 5000  # while memory is short: without a byte for so long, an unfinished request is given up
HOLD_MS = 20_000  # while memory is short: so long after its first byte, too


class Doorkeeper:
    """The listeners and the bounds on who they let in."""

    def __init__(self, gateway: Gateway, poll: epoll) -> None:
        self._gateway = gateway
        self._quotas = ConnectionQuotas()
        self.listeners = Listeners(poll, self._may_accept, self._on_accept)
        self._timer = 0  # under which the listeners are looked at again; 0: none
        self._is_short = False  # a look for those that hold memory is due
        self._overrides: Mapping[str, int] = {}
        self._counts: dict[str, int] = {}  # the overrides by address
        self._names: Background[str] = Background()  # their addresses are asked for

    def open(self) -> None:
        """Clients may come."""
        self._gateway.timers.schedule(self._gateway.now_ms() + self._idle_check_ms(), self._close_idle)

    # -- bounds

    def on_configs(self) -> None:
        """The broker's configs are others now: they count for who is here, too."""
        config = self._gateway.config
        if config.max_connections_per_ip_overrides != self._overrides:
            self._overrides = config.max_connections_per_ip_overrides
            self._counts = self._by_address()
        self._quotas.set_limits(
            config.max_connections,
            config.max_connections_per_ip,
            self._counts,
            config.max_connection_creation_rate,
        )
        excess = self._quotas.excess
        if excess > 0:  # as Kafka: those that said nothing for longest go
            by_age = sorted(self._gateway.connections.values(), key=lambda client: client.last_active_ms)
            for connection in by_age[:excess]:
                connection.close()
        self._look_again()

    def _by_address(self) -> dict[str, int]:
        """The overrides; those of names are added by a thread, for a name server may take its time."""
        counts: dict[str, int] = {}
        self._names.take_done()
        for host, count in self._overrides.items():
            address = _parsed(host)
            if address is not None:
                counts[address] = count
            else:
                self._names.submit(host, partial(_look_up, host, count, counts))
        return counts

    # -- in

    def _may_accept(self) -> bool:
        gateway = self._gateway
        delay_ms = self._quotas.delay_ms(gateway.now_ms())
        if delay_ms > 0 and not self._timer:
            self._timer = gateway.timers.schedule(gateway.now_ms() + delay_ms, self._look_again)
        return delay_ms == 0

    def _look_again(self) -> None:
        if self._timer:
            self._gateway.timers.cancel(self._timer)
            self._timer = 0
        self.listeners.resume()

    def _on_accept(self, sock: socket.socket, peer: str) -> None:
        gateway = self._gateway
        if not self._quotas.enter(_address_of(peer), gateway.now_ms()):
            sock.close()
            return
        if peer != UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(gateway, sock, peer)
        gateway.connections[connection.fd] = connection
        gateway.epoll.register(connection.fd, connection.events)

    # -- out

    def on_gone(self, connection: Connection) -> None:
        """A connection closes: there may be room for who waits."""
        had_room = self._quotas.delay_ms(self._gateway.now_ms()) != UNTIL_ONE_GOES
        self._quotas.leave(_address_of(connection.peer))
        if not had_room:
            self.listeners.resume()

    def _idle_check_ms(self) -> int:
        limit = self._gateway.config.connections_max_idle_ms
        return IDLE_CHECK_MS if limit < 0 else max(IDLE_CHECK_MS_MIN, min(IDLE_CHECK_MS, limit // 4))

    def _close_idle(self) -> None:
        gateway = self._gateway
        limit = gateway.config.connections_max_idle_ms
        if limit >= 0:
            oldest = gateway.now_ms() - limit
            for connection in list(gateway.connections.values()):
                if connection.last_active_ms < oldest and not connection.requests:
                    connection.close()
        gateway.timers.schedule(gateway.now_ms() + self._idle_check_ms(), self._close_idle)

    def memory_is_short(self) -> None:
        """Some wait for memory to receive into: look who holds it in vain, from time to time."""
        if not self._is_short:
            self._relieve()

    def _relieve(self) -> None:
        """What was received of unfinished requests is put aside if it is little; whoever holds memory for one
        that does not go on is closed, or all might wait for each other for ever.
        """
        gateway = self._gateway
        now_ms = gateway.now_ms()
        self._is_short = bool(gateway.starved)
        if not self._is_short:
            return
        for connection in list(gateway.connections.values()):
            if connection.block is None:
                continue
            is_starved = connection in gateway.starved
            # (R) who is not read from, because it is starved, is silent by no fault of its own
            is_idle = not is_starved and connection.last_active_ms < now_ms - SHORT_MS
            if (is_idle or connection.since_ms < now_ms - HOLD_MS) and not connection.requests:
                connection.close()
            elif not is_starved:
                connection.put_aside()
        gateway.feed_starved()
        gateway.timers.schedule(now_ms + SHORT_CHECK_MS, self._relieve)


def _address_of(peer: str) -> str | None:
    """What its connections are counted under; a client of the Unix socket has no address."""
    return None if peer == UNIX else _normal(peer)


def _normal(address: str) -> str:
    """One that came by IPv4 to a socket of IPv6 is known by its IPv4 address."""
    return address.removeprefix("::ffff:") if "." in address else address


def _parsed(host: str) -> str | None:
    """An address as the kernel writes it, None for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_ntop(family, socket.inet_pton(family, host))
        except OSError:
            continue
    return None


def _look_up(host: str, count: int, counts: dict[str, int]) -> None:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        say(f"tailrace: {OVERRIDES}: {host} counts for nobody: {error}\n")
        return
    for *_, address in found:
        counts.setdefault(str(address[0]), count)  # an address that is given itself wins
