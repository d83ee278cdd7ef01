"""Rules of replication that are broken on purpose: the simulation has to notice each."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

from tailrace.core.replication import high_watermark
from tailrace.core.replication.follower import FollowerPartition
from tailrace.core.replication.isr import InSync, Proposal
from tailrace.core.replication.partition import LeaderPartition
from tests.sim.replication_log import MemoryLog
from tests.sim.replication_memory import Words


@contextmanager
def replaced(owner: Any, name: str, value: object) -> Generator[None]:
    """An attribute is another meanwhile."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def without_a_follower() -> Generator[None]:
    """The high watermark does not wait for one of the in-sync replicas."""
    count = InSync.recount

    def fewer(self: InSync) -> None:
        count(self)
        self.counted = self.counted[1:]

    with replaced(InSync, "recount", fewer):
        yield


@contextmanager
def committed_instead_of_maximal() -> Generator[None]:
    """Who is proposed counts only once that is committed."""
    propose = InSync.propose

    def proposes(self: InSync, now_ms: int) -> Proposal | None:
        proposal = propose(self, now_ms)
        self.maximal_isr = self.isr
        self.recount()
        return proposal

    with replaced(InSync, "propose", proposes):
        yield


@contextmanager
def old_words() -> Generator[None]:
    """A link begins with what was acknowledged in its word before."""

    def reset(self: Words, number: int) -> None:
        self.seen[number] = -1

    with replaced(Words, "reset", reset):
        yield


@contextmanager
def old_links() -> Generator[None]:
    """A new leader epoch goes on with the acknowledgements of the one before."""
    resign, known = LeaderPartition.resign, dict[int, dict[int, int]]()

    def resigns(self: LeaderPartition) -> None:
        known[id(self.log)] = {r: f.acked for r, f in self.in_sync.followers.items()}
        resign(self)

    begin = LeaderPartition.__init__

    def begins(self: LeaderPartition, tp: Any, log: Any, in_sync: InSync, **options: bool) -> None:
        for replica_id, acked in known.get(id(log), {}).items():
            if replica_id in in_sync.followers:
                in_sync.followers[replica_id].acked = acked
        begin(self, tp, log, in_sync, **options)

    with replaced(LeaderPartition, "resign", resigns), replaced(LeaderPartition, "__init__", begins):
        yield


@contextmanager
def at_its_own_high_watermark() -> Generator[None]:
    """A new leader does not look at the rows of others."""

    def own(_rows: object, *, own_high_watermark: int, **_: int) -> int:
        return own_high_watermark

    with replaced(high_watermark, "starting_high_watermark", own):
        yield


@contextmanager
def at_its_predecessors_row() -> Generator[None]:
    """A new leader looks at the row of the newest epoch alone, and its own log."""

    def newest(rows: Iterable[tuple[int, int]], *, own_high_watermark: int, **_: int) -> int:
        return max(max(rows, default=(0, 0))[1], own_high_watermark)

    with replaced(high_watermark, "starting_high_watermark", newest):
        yield


@contextmanager
def anywhere_in_the_log() -> Generator[None]:
    """A follower takes a batch that is not at its end."""
    append = MemoryLog.append_as_follower

    def appends(self: MemoryLog, source: bytes, now_ms: int, **_: bool) -> None:
        append(self, source, now_ms, allow_gap=True)

    def on_data(self: FollowerPartition, header: Any, frame: bytes, now_ms: int) -> bool:
        kind, _, link, _, *rest = header
        return takes(self, (kind, 1, link, self.next_offset, *rest), frame, now_ms)

    takes = FollowerPartition.on_data
    with replaced(MemoryLog, "append_as_follower", appends), replaced(FollowerPartition, "on_data", on_data):
        yield


@contextmanager
def without_truncation() -> Generator[None]:
    """A follower acknowledges what it has before it has truncated."""

    def truncate(*_: object) -> None: ...

    with replaced(FollowerPartition, "_truncate", truncate):
        yield


@contextmanager
def shown_too_early() -> Generator[None]:
    """A follower shows an epoch that it has only heard of beside its old high watermark."""
    follow = FollowerPartition.follow

    def follows(self: FollowerPartition, leader_epoch: int, say: Any, now_ms: int) -> None:
        self.shown_epoch = leader_epoch
        follow(self, leader_epoch, say, now_ms)

    with replaced(FollowerPartition, "follow", follows):
        yield


FAULTS = {
    fault.__name__: fault
    for fault in (
        without_a_follower,
        committed_instead_of_maximal,
        old_words,
        old_links,
        at_its_own_high_watermark,
        at_its_predecessors_row,
        anywhere_in_the_log,
        without_truncation,
        shown_too_early,
    )
}
