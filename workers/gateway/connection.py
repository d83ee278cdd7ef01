"""One client: bytes in, requests out in order; answers in, bytes out in the same order.

Produce requests are pipelined. Any other request waits until all before it are answered, and all after it
wait for its answer: one connection sees its requests done in the order it sent them, as with Kafka.
"""

import socket
from collections import deque
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP
from struct import Struct
from typing import TYPE_CHECKING, Any

from tailrace.core.protocol.apis import PRODUCE
from tailrace.shm.arena import BLOCK_MAX
from tailrace.workers.gateway.buffers import Block
from tailrace.workers.gateway.cold_reads import ColdRead, Warmed
from tailrace.workers.gateway.request import Request
from tailrace.workers.gateway.sendfile import FileRange, send_pieces

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway

RECEIVE_BYTES = 64 * 1024
BULK_BYTES = 256 * 1024  # to receive into, for one that sends a lot at once
BULK_FROM = 16 * 1024  # a receive of so many bytes says that it does
GROWTH = 4  # an unfinished frame gets as much memory as it says only once this part of it is there
GROWN_BYTES = 1024 * 1024  # or so many bytes
ASIDE_BYTES_MAX = 16 * 1024  # received bytes that are kept apart when memory is short, to give a block back
PIPELINE_MAX = 128  # requests of one connection under way
FRAMES_A_TURN = 16  # then others have theirs: a hundred take more than a millisecond
OUTPUT_BYTES_MAX = 4 * 1024 * 1024  # unsent bytes (files apart) above which no more requests are taken
OUTPUT_PIECES_MAX = 256  # unsent pieces, each of which may hold a file open
HEADER_BYTES_MIN = 10  # key, version, correlation id, length of the client id

_read_size = Struct(">i").unpack_from


class Connection:
    """A socket, its receive block, its requests under way and its unsent answers."""

    __slots__ = (
        "aside",
        "block",
        "closed",
        "end",
        "ended",
        "events",
        "expected",
        "fd",
        "gateway",
        "has_more",
        "last_active_ms",
        "out",
        "peer",
        "reading",
        "requests",
        "since_ms",
        "sock",
        "stalled",
        "start",
        "starved",
        "stop",
    )

    def __init__(self, gateway: "Gateway", sock: socket.socket, peer: str) -> None:
        self.gateway = gateway
        self.sock = sock
        self.fd = sock.fileno()
        self.peer = peer
        self.block: Block | None = None
        self.start = 0  # of the bytes not yet taken, in the block's mapping
        self.end: int = 0
        self.stop = 0  # receive up to here: a large frame's end, else the block's
        self.expected = RECEIVE_BYTES  # that the next block has to take
        self.aside = b""  # what was received, while there is no block
        self.since_ms = 0  # when it was first given memory for what it has not sent all of
        self.requests: deque[Request] = deque()
        self.out: deque[Any] = deque()
        self.events = EPOLLIN
        self.stalled = False  # a whole frame waits for answers to those before it
        self.has_more = False  # whole frames may be there, to be taken in the next turn
        self.starved = False  # no memory to receive into
        self.ended = False  # nothing more is read, and answers are owed
        self.reading = False  # what is to be sent next is being read from the disk
        self.closed = False
        self.last_active_ms = gateway.now_ms()

    def on_event(self, events: int) -> None:
        """What epoll saw."""
        if events & EPOLLOUT:
            self.last_active_ms = self.gateway.now_ms()
            self.flush()
        if events & EPOLLIN and not self.closed:
            self.on_readable()
        elif events & EPOLLRDHUP and not self.closed and not events & (EPOLLERR | EPOLLHUP):
            self._on_hung_up()
        elif events & (EPOLLERR | EPOLLHUP) and not self.closed:
            self.close()

    def on_readable(self) -> None:
        """Receive what is there and take the requests that are whole."""
        if self.has_more:
            return
        if self.stalled or self.starved or self.ended:
            if self.events & EPOLLIN:
                self._watch(self.events & ~EPOLLIN | EPOLLRDHUP)
            return
        block = self.block
        if block is None:
            block = self._first_block()
            if block is None:
                return
        try:
            received = self.sock.recv_into(block.view[self.end : self.stop])
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if received == 0:
            self._on_end()
            return
        self.last_active_ms = self.gateway.now_ms()
        self.end += received
        self.expected = BULK_BYTES if received >= BULK_FROM else RECEIVE_BYTES
        self.take_requests()

    def _on_end(self) -> None:
        """The peer sends no more. What it is owed it still gets, but no fetch goes on waiting for it."""
        if (not self.requests and not self.out) or self.gateway.long_polls.has(self):
            self.close()
            return
        self.ended = True
        self._watch(self.events & ~(EPOLLIN | EPOLLRDHUP))
        self._give_block_back()  # (R) a join may wait for minutes: 900 such blocks are all the memory

    def _give_block_back(self) -> None:
        if self.block is not None:
            self.gateway.buffers.unpin(self.block)
            self.block = None

    def _on_hung_up(self) -> None:
        """The peer has gone or sends no more, and what it sent last is not read yet."""
        if self.gateway.long_polls.has(self):
            self.close()
        else:
            self._watch(self.events & ~EPOLLRDHUP)  # the end is met once all before it is read

    def _first_block(self) -> Block | None:
        expected = self.expected
        block = self.gateway.buffers.allocate(expected, is_guess=True)
        if block is None and expected > RECEIVE_BYTES:
            expected = RECEIVE_BYTES
            block = self.gateway.buffers.allocate(expected)
        if block is None:
            self._starve()
            return None
        self.block = block
        self.start = self.end = block.start
        self.stop = block.start + expected
        if self.aside:
            self.end += len(self.aside)
            block.view[self.start : self.end] = self.aside
            self.aside = b""
        else:
            self.since_ms = self.gateway.now_ms()
        return block

    def put_aside(self) -> None:
        """Memory is short: keep a few bytes elsewhere, until more come or they can be taken."""
        block = self.block
        if block is not None and self.end - self.start <= ASIDE_BYTES_MAX and not self.has_more:
            self.aside = bytes(block.view[self.start : self.end])
            self._give_block_back()

    def take_requests(self) -> None:
        """Hand over every whole frame; make room for the one that is not."""
        self.stalled = self.has_more = False
        taken = 0
        while not self.closed:
            block = self.block
            available = self.end - self.start
            if block is None or available < 4:
                break
            (size,) = _read_size(block.map, self.start)
            if size < HEADER_BYTES_MIN or size > self.gateway.request_bytes_max:
                self.hang_up(None)  # as Kafka: what follows cannot be told apart any more
                return
            if available < 4 + size:
                break
            if self._must_wait(block):
                self.stalled = True
                return
            if RECEIVE_BYTES < size < BLOCK_MAX:
                self.expected = 4 + size  # it sends another like it: no byte of which need then be moved
            if taken == FRAMES_A_TURN:
                self.has_more = True
                self.gateway.unfinished.add(self)
                return
            taken += 1
            start = self.start + 4
            self.start = start + size
            self.gateway.on_frame(self, start, start + size)
        if not self.closed:
            if taken:
                self.since_ms = self.last_active_ms  # what is not whole yet has just begun
            self._settle()

    def _must_wait(self, block: Block) -> bool:
        """Whether the frame at `start` has to wait for answers first."""
        requests = self.requests
        if self.out and (len(self.out) > OUTPUT_PIECES_MAX or self._unsent() > OUTPUT_BYTES_MAX):
            return True
        if not requests:
            return False
        is_produce = block.map[self.start + 4 : self.start + 6] == b"\x00\x00"
        if not is_produce or requests[-1].api.key != PRODUCE:
            return True
        return len(requests) >= PIPELINE_MAX

    def _unsent(self) -> int:
        return sum(len(piece) for piece in self.out if type(piece) is not FileRange)

    def _settle(self) -> None:
        """Give the block back when all of it was taken, else see that the unfinished frame fits."""
        block = self.block
        if block is None:
            return
        buffers = self.gateway.buffers
        if self.start == self.end:
            self.block = None
            if block.is_guess:
                buffers.settle(block)
            buffers.unpin(block)
            return
        available = self.end - self.start
        need = whole = 4 + _read_size(block.map, self.start)[0] if available >= 4 else 4
        if self.start + need > block.limit:
            if available < GROWN_BYTES:  # (R) who only says how much it will send gets no memory for it
                need = min(need, max(RECEIVE_BYTES, GROWTH * available))
            if block.pins > 1 or block.start + need > block.limit:
                self._move(block, need, whole, available)
                return
            block.view[block.start : block.start + available] = block.view[self.start : self.end]
            self.start, self.end = block.start, block.start + available
        if block.is_guess and available >= 4 and self.start + whole <= block.limit:
            buffers.settle(block)
        self.stop = self.start + need if need > RECEIVE_BYTES else block.limit

    def _move(self, block: Block, need: int, whole: int, available: int) -> None:
        buffers = self.gateway.buffers
        new = buffers.allocate(max(need, RECEIVE_BYTES), is_guess=need < whole)
        if new is None and need < whole and (block.is_guess or whole <= BLOCK_MAX):
            # (R) or it would wait for those that wait for as much as this
            need = whole
            new = buffers.allocate(whole)
        if new is None:
            self._starve()
            return
        new.view[new.start : new.start + available] = block.view[self.start : self.end]
        self.block = new
        self.start, self.end = new.start, new.start + available
        self.stop = new.start + need if need > RECEIVE_BYTES else new.limit
        buffers.unpin(block)

    def _starve(self) -> None:
        """No memory: stop reading until some is given back."""
        self.starved = True
        self._watch(self.events & ~EPOLLIN)
        self.gateway.starved[self] = None

    def on_memory(self) -> None:
        """Some memory was given back: go on where it was short."""
        self.starved = False
        if self.closed or (self.block is None and self._first_block() is None):
            return
        if self.stalled:
            self.gateway.unflushed.add(self)
        elif self.start < self.end:
            self._settle()
        if not self.starved:
            self.last_active_ms = self.since_ms = self.gateway.now_ms()  # it could not be heard meanwhile
            self._watch(self.events & ~EPOLLRDHUP | EPOLLIN)

    def on_answered(self, request: Request) -> None:
        """Queue what is at the head of the line and answered."""
        if self.closed:
            self.drop(request.pieces or [])
            return
        requests = self.requests
        if requests and requests[0] is request:
            out = self.out
            while requests and (pieces := requests[0].pieces) is not None:
                requests.popleft()
                out.extend(pieces)
            self.gateway.unflushed.add(self)

    @staticmethod
    def drop(pieces: list[Any]) -> None:
        """Let go of the files of an answer that nobody gets."""
        for piece in pieces:
            if type(piece) is FileRange:
                piece.release()

    def flush(self) -> None:
        """Send what the socket takes; go on taking requests that waited for answers."""
        if self.closed:
            return
        if self.out and not self.reading:
            try:
                done = send_pieces(self.sock, self.fd, self.out)
            except ColdRead as cold:
                self._read_in(cold)
                return
            except OSError:
                self.close()
                return
            if done is None:  # a file ended before the length promised
                self.close()
                return
            if not done:
                self._watch(self.events | EPOLLOUT)
            elif self.events & EPOLLOUT:
                self._watch(self.events & ~EPOLLOUT)
        if self.stalled and (self.block is not None or self._first_block() is not None):
            self.take_requests()
            if not self.stalled and not self.starved and not self.closed and not self.events & EPOLLIN:
                self._watch(self.events & ~EPOLLRDHUP | EPOLLIN)
        if self.ended and not self.requests and not self.out:
            self.close()

    def _read_in(self, cold: ColdRead) -> None:
        """What is to be sent was in the page cache when it was promised, and is no more: go on once it is."""
        warmed: Warmed = {}

        def on_done() -> None:
            self.reading = False
            if self.closed:
                return
            if any(warmed.values()):
                self.close()  # it was promised
                return
            self.out[0].is_checked = True
            self.gateway.unflushed.add(self)

        self.reading = True
        self._watch(self.events & ~EPOLLOUT)
        self.gateway.cold_reads.start(cold, warmed, on_done)

    def hang_up(self, request: Request | None) -> None:
        """Close, as Kafka does when a request ends its connection: once all before it are answered. None: all
        that were taken. Only a fetch that waits is not waited for: nobody would see its client go.
        """
        if self.closed:
            return
        if self.gateway.long_polls.has(self):
            self.close()
            return
        if request in self.requests:
            while (last := self.requests.pop()) is not request:
                self.drop(last.pieces or [])
        self.ended, self.stalled = True, False
        self.end = self.start
        self._watch(self.events & ~(EPOLLIN | EPOLLRDHUP))
        self.gateway.unflushed.add(self)

    def _watch(self, events: int) -> None:
        if events != self.events and not self.closed:
            self.events = events
            self.gateway.epoll.modify(self.fd, events)

    def close(self) -> None:
        """Close the socket; requests under way are finished by the workers and answered to nobody."""
        if self.closed:
            return
        self.closed = True
        self.drop(list(self.out))
        self.out.clear()
        for request in self.requests:
            self.drop(request.pieces or [])
        self.requests.clear()
        self._give_block_back()
        self.gateway.forget(self)
        self.sock.close()
