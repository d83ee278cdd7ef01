"""Fetch sessions (KIP-227): a consumer names its partitions once, then only what changes.

An incremental answer holds only partitions with records, an error or a moved high watermark or log start.
Partitions that got records move to the end, so that none starves behind the others.
"""

from typing import Final

from msgspec import Struct

from tailrace.core.errors import (
    FETCH_SESSION_ID_NOT_FOUND,
    FETCH_SESSION_TOPIC_ID_ERROR,
    INVALID_FETCH_SESSION_EPOCH,
    NONE,
)
from tailrace.core.protocol.messages.fetch import FetchRequest

EVICTION_MS: Final = 120_000
EPOCH_MAX: Final = 0x7FFFFFFF
SESSION_PARTITIONS_MAX: Final = 100_000  # more are fetched in full each time, without a session
PARTITIONS_MAX: Final = 1_000_000  # of all sessions together: about 250 MB
FINAL_EPOCH: Final = -1
INITIAL_EPOCH: Final = 0
NO_SESSION: Final = 0

Topic = str | bytes


class FetchPartition(Struct):
    """One partition of a fetch, and what its session has told of it."""

    topic: Topic  # a name up to version 12, an id from 13 on
    partition: int
    fetch_offset: int
    max_bytes: int
    current_leader_epoch: int
    told_high_watermark: int = -1
    told_log_start_offset: int = -1


Key = tuple[Topic, int]
Partitions = dict[Key, FetchPartition]


class FetchSession(Struct):
    """One consumer's partitions at this broker."""

    session_id: int
    epoch: int
    uses_topic_ids: bool
    partitions: Partitions
    created_ms: int
    last_used_ms: int

    @property
    def is_established(self) -> bool:
        """Whether it was in use for long enough to make room for a larger one."""
        return self.last_used_ms - self.created_ms > EVICTION_MS


class FetchContext(Struct):
    """What one request fetches: with a session, or without."""

    partitions: Partitions
    session: FetchSession | None = None
    is_incremental: bool = False
    error_code: int = NONE

    @property
    def session_id(self) -> int:
        """What the answer names."""
        return self.session.session_id if self.session else NO_SESSION

    def is_told(
        self, part: FetchPartition, error: int, high_watermark: int, log_start_offset: int, size: int
    ) -> bool:
        """Whether an answer of this context has to hold the partition."""
        return (
            not self.is_incremental
            or size > 0
            or error != NONE
            or part.told_high_watermark != high_watermark
            or part.told_log_start_offset != log_start_offset
        )

    def told(
        self, part: FetchPartition, error: int, high_watermark: int, log_start_offset: int, size: int
    ) -> None:
        """The answer holds the partition."""
        if self.session is None:
            return
        part.told_high_watermark = -1 if error else high_watermark
        part.told_log_start_offset = -1 if error else log_start_offset
        if size > 0:
            key = (part.topic, part.partition)
            if self.session.partitions.get(key) is part:
                self.session.partitions[key] = self.session.partitions.pop(key)


class FetchSessions:
    """The sessions of one broker, at most `slots` (max.incremental.fetch.session.cache.slots)."""

    def __init__(self, slots: int, *, first_id: int = 0) -> None:
        """`first_id`: ids begin after it; by chance, so that a successor gives other ids than we did."""
        self._slots = slots
        self._sessions: dict[int, FetchSession] = {}
        self._last_id = first_id

    def __len__(self) -> int:
        return len(self._sessions)

    def context(self, request: FetchRequest, uses_topic_ids: bool, now_ms: int) -> FetchContext:
        """What the request fetches, by FetchManager.newContext of Kafka."""
        if request.session_epoch in (FINAL_EPOCH, INITIAL_EPOCH):
            self._sessions.pop(request.session_id, None)
            partitions = _asked(request, uses_topic_ids)
            if request.session_epoch == FINAL_EPOCH:
                return FetchContext(partitions)
            session = self._create(partitions, uses_topic_ids, now_ms)
            return FetchContext(partitions, session)
        session = self._sessions.get(request.session_id)
        if session is None:
            return FetchContext({}, error_code=FETCH_SESSION_ID_NOT_FOUND)
        if session.epoch != request.session_epoch:
            return FetchContext({}, error_code=INVALID_FETCH_SESSION_EPOCH)
        if session.uses_topic_ids != uses_topic_ids:
            return FetchContext({}, error_code=FETCH_SESSION_TOPIC_ID_ERROR)
        return self._continue(session, request, now_ms)

    def _continue(self, session: FetchSession, request: FetchRequest, now_ms: int) -> FetchContext:
        asked = _asked(request, session.uses_topic_ids)
        before = len(session.partitions)
        for key, new in asked.items():
            known = session.partitions.get(key)
            if known is not None:
                known.fetch_offset, known.max_bytes = new.fetch_offset, new.max_bytes
                known.current_leader_epoch = new.current_leader_epoch
            else:
                session.partitions[key] = new
        after = len(session.partitions)
        if after > SESSION_PARTITIONS_MAX or (after > before and self._partition_count() > PARTITIONS_MAX):
            # its client goes on with full fetches
            del self._sessions[session.session_id]
            return FetchContext({}, error_code=FETCH_SESSION_ID_NOT_FOUND)
        for topic in request.forgotten_topics_data:
            name: Topic = topic.topic_id if session.uses_topic_ids else topic.topic
            for index in topic.partitions:
                session.partitions.pop((name, index), None)
        if not session.partitions:  # its client has nothing left to name: Kafka closes it
            del self._sessions[session.session_id]
            return FetchContext(asked)
        session.epoch = session.epoch + 1 if session.epoch < EPOCH_MAX else 1
        session.last_used_ms = now_ms
        return FetchContext(dict(session.partitions), session, is_incremental=True)

    def _create(self, partitions: Partitions, uses_topic_ids: bool, now_ms: int) -> FetchSession | None:
        """A new session, None when there is no room for it: the client then sends full requests."""
        size = len(partitions)
        if size > SESSION_PARTITIONS_MAX:
            return None
        if len(self._sessions) >= self._slots and not self._evict(size, now_ms):
            return None
        if self._partition_count() + size > PARTITIONS_MAX:
            return None
        self._last_id = self._last_id % EPOCH_MAX + 1
        session = FetchSession(self._last_id, 1, uses_topic_ids, dict(partitions), now_ms, now_ms)
        self._sessions[self._last_id] = session
        return session

    def _partition_count(self) -> int:
        return sum(len(session.partitions) for session in self._sessions.values())

    def _evict(self, size: int, now_ms: int) -> bool:
        """Make room for `size` partitions: a stale session goes, or a smaller one that is not new."""
        if not self._sessions:
            return False
        victim = min(self._sessions.values(), key=lambda session: session.last_used_ms)
        if now_ms - victim.last_used_ms <= EVICTION_MS:
            old = [session for session in self._sessions.values() if session.is_established]
            if not old:
                return False
            victim = min(old, key=lambda session: (len(session.partitions), session.session_id))
            if len(victim.partitions) >= size:
                return False
        del self._sessions[victim.session_id]
        return True


def _asked(request: FetchRequest, uses_topic_ids: bool) -> Partitions:
    found: Partitions = {}
    for topic in request.topics:
        name: Topic = topic.topic_id if uses_topic_ids else topic.topic
        for part in topic.partitions:
            found[name, part.partition] = FetchPartition(
                name, part.partition, part.fetch_offset, part.partition_max_bytes, part.current_leader_epoch
            )
    return found
