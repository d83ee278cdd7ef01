"""Asks: questions to the leader of a partition whose words do not fit an entry, answered at once or later.

The question lies in the gateway's memory, and the answer is put in its place. One that is larger than the
block stays here until the gateway asks for it again with a block that is large enough.
"""

from collections.abc import Callable
from contextlib import suppress

from tailrace.core.errors import NONE, NOT_LEADER_OR_FOLLOWER, UNKNOWN_SERVER_ERROR
from tailrace.shm.arena import Arena, LargeFile
from tailrace.shm.region import ShmError
from tailrace.workers.completions import Completions
from tailrace.workers.descriptors import ASK, Entry, pack
from tailrace.workers.partition_answers import ANSWERERS
from tailrace.workers.process import ProcessContext
from tailrace.workers.replica import Replica

KEPT_MAX = 64  # answers that wait for a larger block

LaterAnswerer = Callable[[bytes, "Ask"], None]
"""Takes a question, and calls `Asks.answer` at some time."""


class Ask:
    """One question under way: whose it is and where its answer goes."""

    __slots__ = ("arena", "capacity", "incarnation", "position", "slot", "source", "token")

    def __init__(self, entry: Entry, arena: Arena, slot: int, incarnation: int) -> None:
        _, self.token, _, _, self.source, self.position, _, last = entry
        self.capacity = last & 0xFFFFFFFF
        self.arena = arena
        self.slot = slot
        self.incarnation = incarnation


class Asks:
    """All questions to one worker."""

    def __init__(self, context: ProcessContext, completions: Completions) -> None:
        self._context = context
        self._completions = completions
        self._kept: dict[tuple[int, int, int], bytes] = {}  # answers too large: slot, incarnation, token
        self.later: dict[int, LaterAnswerer] = {}  # by row: its coordinator

    def take(self, entry: Entry, replica: Replica, arena: Arena, slot: int, incarnation: int) -> bytes | None:
        """The completion, None: later."""
        ask = Ask(entry, arena, slot, incarnation)
        question = self._read(ask, entry[6])
        if question is None:  # its gateway is dead, or memory is short
            return pack(ASK, ask.token, NOT_LEADER_OR_FOLLOWER, 0, 0, 0, 0, 0)
        answerer = ANSWERERS.get(entry[7] >> 32)
        if answerer is not None:
            return self._finish(ask, NONE, answerer(replica, question))
        later = self.later.get(entry[2])
        if later is None:
            return pack(ASK, ask.token, NOT_LEADER_OR_FOLLOWER, 0, 0, 0, 0, 0)
        later(question, ask)
        return None

    def again(self, entry: Entry, arena: Arena, slot: int, incarnation: int) -> bytes:
        """The answer to an earlier question, into a larger block."""
        body = self._kept.pop((slot, incarnation, entry[6]), None)
        if body is None:
            return pack(ASK, entry[1], UNKNOWN_SERVER_ERROR, 0, 0, 0, 0, 0)
        return self._finish(Ask(entry, arena, slot, incarnation), NONE, body)

    def answer(self, ask: Ask, error: int, body: bytes) -> None:
        """Answer a question that was taken in an earlier run, or in this one."""
        if self._context.slots.is_live(ask.slot, ask.incarnation):
            self._completions.later(ask.slot, ask.incarnation, self._finish(ask, error, body))

    def forget(self, slot: int, incarnation: int) -> None:
        """That gateway is dead."""
        for key in [key for key in self._kept if key[:2] == (slot, incarnation)]:
            del self._kept[key]

    def _finish(self, ask: Ask, error: int, body: bytes) -> bytes:
        size = len(body)
        if size > ask.capacity:
            self._kept[ask.slot, ask.incarnation, ask.token] = body
            if len(self._kept) > KEPT_MAX:  # of a gateway that found no memory for it: nobody will ask again
                del self._kept[next(iter(self._kept))]
        elif ask.source:
            with suppress(OSError, ShmError):  # its gateway is dead
                large = LargeFile.attach(self._context.run_dir, ask.slot, ask.incarnation, ask.source)
                large.view[ask.position : ask.position + size] = body
                large.close()
        else:
            ask.arena.view[ask.position : ask.position + size] = body
        return pack(ASK, ask.token, error, size, 0, 0, 0, 0)

    def _read(self, ask: Ask, length: int) -> bytes | None:
        if not ask.source:
            return bytes(ask.arena.view[ask.position : ask.position + length])
        try:
            large = LargeFile.attach(self._context.run_dir, ask.slot, ask.incarnation, ask.source)
        except (OSError, ShmError):
            return None
        try:
            return bytes(large.view[ask.position : ask.position + length])
        finally:
            large.close()
