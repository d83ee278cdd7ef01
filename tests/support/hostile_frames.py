"""Frames that no client should send, and many clients that send them all the same.

`Frames` makes them without end from a seed: sound requests at the edges of their declarations, damaged
ones, wrong headers and sizes, other protocols, several at once and some in pieces. `Swarm` sends them.
"""

import contextlib
import selectors
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from random import Random

from perf.peers.peer import Tcp
from tailrace.core.protocol.apis import APIS, PRODUCE, UNREGISTER_BROKER, Api
from tests.support.batches import batch, changed, message_set
from tests.support.hostile import HUGE, Drafted, Values, damaged
from tests.support.hostile_batches import bombs

PATIENCE_S = 0.05  # for an answer: some requests wait for minutes, and half a frame for ever
LATEST_S = 30.0  # the whole swarm gives up: only in a test that fails anyway

FOREIGN = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    bytes.fromhex("16030102000100 01fc0303") + bytes(range(256)) * 2,
    b"SSH-2.0-OpenSSH_9.7\r\n",
    bytes(8),
    b"\0",
    struct.pack(">i", 3) + b"\0\x12\0",
)
OBEYED = (UNREGISTER_BROKER,)  # by right: the broker is given up, and begins anew
SIZES = (0, -1, -(2**31), HUGE, 3, 9, 10, 104_857_600, 104_857_601, 4 * 1024 * 1024 + 1)


def record_sets() -> Sequence[bytes]:
    """What a Produce request may bring: sound, damaged, old and swollen."""
    sound = batch()
    found = [sound, sound, batch(300), sound[:-1], sound[:30], b"", sound * 2, bytes(61)]
    found += [
        message_set(0, b"a", b"b"),
        message_set(1, b"a"),
        batch(producer_id=5, producer_epoch=0, base_sequence=0),
    ]
    for fields in (
        {"magic": 3}, {"magic": -1}, {"length": -1}, {"length": HUGE}, {"length": 0}, {"record_count": HUGE},
        {"record_count": -1}, {"record_count": 0}, {"last_offset_delta": HUGE, "record_count": -(2**31)},
        {"last_offset_delta": HUGE - 1, "record_count": HUGE}, {"attributes": 7}, {"attributes": -1},
        {"attributes": 0x20}, {"attributes": 0x10}, {"base_offset": -1}, {"base_offset": 2**63 - 1},
        {"max_timestamp": -1}, {"max_timestamp": 2**63 - 1}, {"base_timestamp": -(2**63)}, {"crc": 0},
        {"producer_id": 2**63 - 1, "producer_epoch": -1, "base_sequence": -5},
    ):  # fmt: skip
        found.append(changed(sound, **fields))
    return [*found, *bombs(1 << 20)]


class Frames:
    """An endless, seeded run of hostile frames, each in the pieces it is to be sent in."""

    def __init__(self, seed: int, names: Sequence[str], ids: Sequence[bytes]) -> None:
        self._random = Random(seed)
        self._values = Values(
            names,
            ids,
            records=record_sets(),
            num_partitions=(1, 1, 2, -1, 0, HUGE, -5),
            count=(1, 2, 3, 0, -1, HUGE),
            replication_factor=(1, 1, -1, 0, 3, 32767),
            acks=(-1, 0, 1, 2),
            max_wait_ms=(0, 0, 1, 100, -1, HUGE),
            timeout_ms=(0, 1, 1000, -1, HUGE),
            session_timeout_ms=(6000, 1, HUGE),
            replica_id=(-1, -1, -1, 0, 5),
            resource_type=(2, 2, 4, 8, 32, 1, 0, -1),
            resource_name=(*names, "0", "1", "", "x"),
            key_type=(0, 0, 0, 1, 2, 9),
        )
        self._versions = [
            (api, version)
            for api in APIS.values()
            if api.key not in OBEYED
            for version in range(api.min_decodable, api.max_version + 1)
        ]

    def __iter__(self) -> Iterator[list[bytes]]:
        while True:
            yield self._next()

    def _next(self) -> list[bytes]:
        random = self._random
        kind = random.random()
        if kind < 0.05:
            return [random.choice((*FOREIGN, random.randbytes(100)))]
        if kind < 0.10:
            return [b"".join(self._frame() for _ in range(random.randint(2, 6)))]
        frame = self._frame()
        if kind < 0.15:
            return [struct.pack(">i", random.choice((*SIZES, len(frame) - 5, len(frame)))) + frame[4:]]
        if kind < 0.20:
            cuts = sorted(random.randrange(len(frame) + 1) for _ in range(random.randint(1, 4)))
            return [frame[start:end] for start, end in zip([0, *cuts], [*cuts, len(frame)], strict=True)]
        return [frame]

    def _frame(self) -> bytes:
        random = self._random
        api, version = random.choice(self._versions)
        draft = Drafted(api.request, version, random, self._values)
        body = bytes(draft.body) if random.random() < 0.4 else damaged(draft, random)
        head = self._header(api, version)
        return struct.pack(">i", len(head) + len(body)) + head + body

    def _header(self, api: Api, version: int) -> bytes:
        random = self._random
        key, flexible = api.key, version >= api.flexible_since
        if random.random() < 0.05:
            key = random.choice((-1, 4, 7, 27, 999, 32767, PRODUCE))
        if random.random() < 0.05:
            version = random.choice((-1, api.min_version - 1, api.max_version + 1, 32767, 0))
        if random.random() < 0.05:
            flexible = not flexible
        client = random.choice((b"\xff\xff", b"\0\0", b"\0\x07hostile", b"\0\x02\xff\xfe"))
        if random.random() < 0.02:
            client = random.choice((b"\x7f\xff" + b"c" * 32767, b"\x7f\xff", b"\xff\xfe"))
        tags = random.choice((b"\0", b"\0", b"\0", b"\x01\x63\x01a", b"\x7f")) if flexible else b""
        return struct.pack(">hhi", key, version, random.getrandbits(31)) + client + tags


class _Client:
    """One connection of the swarm: pieces to send, then some patience for an answer."""

    def __init__(self, address: Tcp) -> None:
        self.sock = socket.create_connection((address.host, address.port), LATEST_S)
        self.sock.setblocking(False)
        self.pieces: list[bytes] = []
        self.left = 0  # of the answer being received
        self.head = b""
        self.deadline = 0.0

    def begin(self, pieces: list[bytes]) -> None:
        """A new frame."""
        self.pieces = [piece for piece in pieces if piece]
        self.deadline = time.monotonic() + PATIENCE_S

    def send_some(self) -> None:
        """A piece, or what the socket takes of it."""
        if self.pieces:
            with contextlib.suppress(BlockingIOError):
                sent = self.sock.send(self.pieces[0])
                self.pieces[0] = self.pieces[0][sent:]
                if not self.pieces[0]:
                    del self.pieces[0]

    def receive(self) -> bool:
        """Whether an answer has come whole. ConnectionError: the broker closed."""
        with contextlib.suppress(BlockingIOError):
            while data := self.sock.recv(1 << 16):
                ended = False
                while data:
                    if not self.left:
                        need = 4 - len(self.head)
                        self.head, data = self.head + data[:need], data[need:]
                        if len(self.head) < 4:
                            break
                        self.left, self.head = int.from_bytes(self.head), b""
                    self.left, data = self.left - min(self.left, len(data)), data[self.left :]
                    ended = not self.left
                if ended:
                    return True
            raise ConnectionError
        return False


class Counts:
    """What became of the frames."""

    def __init__(self) -> None:
        self.sent = self.answered = self.closed = self.given_up = 0

    def __str__(self) -> str:
        return (
            f"{self.sent} frames: {self.answered} answered, {self.closed} connections closed by the broker,"
            f" {self.given_up} given up"
        )


class Swarm:
    """So many connections, each with one frame after the other."""

    def __init__(self, address: Tcp, frames: Frames, connections: int) -> None:
        self._address = address
        self._frames = iter(frames)
        self._selector = selectors.DefaultSelector()
        self.counts = Counts()
        self._clients = {self._dial() for _ in range(connections)}

    def _dial(self) -> _Client:
        client = _Client(self._address)
        self._selector.register(client.sock, selectors.EVENT_READ, client)
        return client

    def send(self, count: int) -> None:
        """Send so many frames, and see what becomes of each."""
        wanted = self.counts.sent + count
        for client in self._clients:
            self._begin(client)
        while self.counts.sent < wanted:
            now = time.monotonic()
            for key, _ in self._selector.select(0.002):
                self._on_readable(key.data)
            for client in list(self._clients):
                if client.pieces:
                    self._attempt(client)
                if now > client.deadline:
                    self.counts.given_up += 1
                    self._replace(client)

    def _begin(self, client: _Client) -> None:
        client.begin(next(self._frames))
        self.counts.sent += 1
        self._attempt(client)

    def _attempt(self, client: _Client) -> None:
        try:
            client.send_some()
        except ConnectionError:
            self.counts.closed += 1
            self._replace(client)

    def _on_readable(self, client: _Client) -> None:
        try:
            answered = client.receive()
        except ConnectionError:
            self.counts.closed += 1
            self._replace(client)
            return
        if answered:
            self.counts.answered += 1
            self._begin(client)

    def _replace(self, client: _Client) -> None:
        if client not in self._clients:
            return
        self._selector.unregister(client.sock)
        client.sock.close()
        self._clients.discard(client)
        fresh = self._dial()
        self._clients.add(fresh)
        self._begin(fresh)

    def close(self) -> None:
        """All hang up."""
        for client in self._clients:
            client.sock.close()
        self._clients.clear()
        self._selector.close()
