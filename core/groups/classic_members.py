"""Who is in a classic group: members, static members, the leader, and the protocol that all of them speak.

A member is known by the member id the coordinator gave it. A static member has also a name of its own, its
group instance id: whoever comes with that name takes the member's place, and the id it had is fenced. Pending
are ids that were given out and with which nobody has joined yet.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from msgspec import Struct

from tailrace.core.errors import FENCED_INSTANCE_ID, NONE, UNKNOWN_MEMBER_ID
from tailrace.core.groups.classic_answers import refuse_join, refuse_sync
from tailrace.core.groups.runtime import GroupRequest


class Member(Struct, kw_only=True):
    """One member; times in ms. `joining` and `syncing` are its requests that wait for an answer."""

    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    protocols: dict[str, bytes]  # name -> metadata, the one it prefers first
    assignment: bytes = b""
    joining: GroupRequest | None = None
    syncing: GroupRequest | None = None
    is_new: bool = False  # has not been in a generation

    def speaks(self, protocols: dict[str, bytes]) -> bool:
        """Whether these are its protocols, in its order, with its metadata."""
        return list(self.protocols.items()) == list(protocols.items())

    def refuse_join(self, error: int, member_id: str = "") -> None:
        """If it waits for a generation, answer with the error."""
        request, self.joining = self.joining, None
        if request is not None:
            refuse_join(request, error, member_id)

    def refuse_sync(self, error: int) -> None:
        """If it waits for its assignment, answer with the error."""
        request, self.syncing = self.syncing, None
        if request is not None:
            refuse_sync(request, error)


class Roster:
    """The members of one group; see the module."""

    def __init__(self) -> None:
        self.by_id: dict[str, Member] = {}
        self.pending: set[str] = set()
        self.leader: str | None = None
        self._static: dict[str, str] = {}  # group instance id -> member id

    def __len__(self) -> int:
        return len(self.by_id)

    def __iter__(self) -> Iterator[Member]:
        """The members of this moment; they may go while the caller goes through them."""
        return iter(tuple(self.by_id.values()))

    def __contains__(self, member_id: str | None) -> bool:
        return member_id in self.by_id

    # -- coming and going

    def add(self, member: Member) -> None:
        """A member more; the first leads. The caller has seen that its instance id is free."""
        assert member.member_id not in self.by_id
        if member.group_instance_id is not None:
            assert member.group_instance_id not in self._static
            self._static[member.group_instance_id] = member.member_id
        if self.leader is None:
            self.leader = member.member_id
        self.by_id[member.member_id] = member
        self.pending.discard(member.member_id)

    def remove(self, member_id: str) -> Member | None:
        """Forget a member or a pending id; if it led, the oldest member leads."""
        member = self.by_id.pop(member_id, None)
        if member is not None and member.group_instance_id is not None:
            del self._static[member.group_instance_id]
        if self.leader == member_id:
            self.leader = next(iter(self.by_id), None)
        self.pending.discard(member_id)
        return member

    def rename(self, member: Member, member_id: str) -> None:
        """The static member goes on under another member id, also as the leader."""
        assert member.group_instance_id is not None
        old = member.member_id
        del self.by_id[old]
        member.member_id = member_id
        self.by_id[member_id] = member
        self._static[member.group_instance_id] = member_id
        if self.leader == old:
            self.leader = member_id

    def static_member(self, group_instance_id: str) -> Member | None:
        """The member of that name."""
        member_id = self._static.get(group_instance_id)
        return None if member_id is None else self.by_id[member_id]

    def identity_error(self, member_id: str, group_instance_id: str | None) -> int:
        """NONE if that member is in the group, and under that name if it says one."""
        if group_instance_id is not None:
            static = self.static_member(group_instance_id)
            if static is None:
                return UNKNOWN_MEMBER_ID
            if static.member_id != member_id:
                return FENCED_INSTANCE_ID
        return NONE if member_id in self.by_id else UNKNOWN_MEMBER_ID

    # -- what they want and wait for

    @property
    def rebalance_timeout_ms(self) -> int:
        """The time all get to join again: the longest that one of them asks for, never a negative one."""
        return max([0, *(member.rebalance_timeout_ms for member in self)])

    @property
    def joining_count(self) -> int:
        """How many wait for the next generation."""
        return sum(member.joining is not None for member in self)

    @property
    def all_joined(self) -> bool:
        """Whether everybody waits for the next generation, and no id is out."""
        return not self.pending and all(member.joining is not None for member in self)

    def elect(self) -> bool:
        """Have a leader that has joined; False if nobody has."""
        if self.leader is not None and self.by_id[self.leader].joining is None:
            joined = next((member.member_id for member in self if member.joining is not None), None)
            if joined is None:
                return False
            self.leader = joined
        return self.leader is not None

    def all_speak_one_of(self, protocols: Iterable[str]) -> bool:
        """Whether one of the protocols is known to every member."""
        return any(all(name in member.protocols for member in self) for name in protocols)

    def vote(self) -> str:
        """The protocol for the next generation: each member votes for the first of its own that all know."""
        members = list(self)
        common = {name for name in members[0].protocols if self.all_speak_one_of((name,))}
        votes = Counter(next(name for name in member.protocols if name in common) for member in members)
        return max(votes, key=votes.__getitem__)
