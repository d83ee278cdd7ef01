"""Who may vote: sets of voters, and which set counts where in the log (KIP-853).

A voter is a node id with the id of its metadata directory: a node that lost its disk comes back with another
directory id, and so as somebody who may not vote. Sets change by one voter at a time, by a control record,
and (R) a set counts as soon as it is in the log, committed or not, and no longer once it is truncated.
"""

from collections.abc import Iterable, Iterator

from msgspec import Struct, msgpack

from tailrace.core.ids import ZERO_UUID, uuid_text

CHANGES_KEPT = 100  # sets that are remembered; older ones were committed long ago


class ReplicaKey(Struct, frozen=True, array_like=True):
    """A node and the disk it has its log on."""

    node_id: int
    directory_id: bytes = ZERO_UUID

    def __str__(self) -> str:
        return f"{self.node_id}-{uuid_text(self.directory_id)[-4:]}"


class Voter(Struct, frozen=True, array_like=True):
    """One voter; endpoints (listener name, host, port) are for those who describe the quorum."""

    key: ReplicaKey
    endpoints: tuple[tuple[str, str, int], ...] = ()


class VoterSet:
    """Voters by node id; never changed, only replaced."""

    def __init__(self, voters: Iterable[Voter] = ()) -> None:
        self._by_id = {voter.key.node_id: voter for voter in sorted(voters, key=lambda v: v.key.node_id)}
        self.keys = frozenset(voter.key for voter in self._by_id.values())
        self.ids = tuple(self._by_id)
        self.majority = len(self._by_id) // 2 + 1

    def __iter__(self) -> Iterator[Voter]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, key: ReplicaKey) -> bool:
        return key in self.keys

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VoterSet) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(self.keys)

    def __str__(self) -> str:
        return " ".join(str(voter.key) for voter in self)

    def get(self, node_id: int) -> Voter | None:
        """The voter with that node id."""
        return self._by_id.get(node_id)

    def with_voter(self, voter: Voter) -> "VoterSet":
        """This set and one more, whose node id is not in it."""
        assert voter.key.node_id not in self._by_id
        return VoterSet((*self, voter))

    def without(self, key: ReplicaKey) -> "VoterSet":
        """This set but for one."""
        assert key in self
        return VoterSet(voter for voter in self if voter.key != key)

    def rank(self, node_id: int, *absent: int) -> int:
        """How many voters have smaller ids, those absent aside: who acts first when several could."""
        return sum(1 for other in self._by_id if other < node_id and other not in absent)


def encode_voters(voters: VoterSet) -> bytes:
    """A set in bytes, for a snapshot."""
    return msgpack.encode(list(voters))


def decode_voters(data: bytes) -> VoterSet:
    """The set in these bytes; msgspec.MsgspecError if there is none."""
    return VoterSet(msgpack.decode(data, type=list[Voter]))


class VoterHistory:
    """Voter sets by the offset of the record that said so; -1: what counted before any record."""

    def __init__(self, initial: VoterSet) -> None:
        self._sets: list[tuple[int, VoterSet]] = [(-1, initial)]
        self.latest = initial

    @property
    def latest_offset(self) -> int:
        """Of the record that made the latest set; -1 if there was none."""
        return self._sets[-1][0]

    @property
    def previous(self) -> VoterSet:
        """The set before the latest; nobody if that is not remembered."""
        return self._sets[-2][1] if len(self._sets) > 1 else VoterSet()

    def add(self, offset: int, voters: VoterSet) -> None:
        """The record at `offset`, the newest of the log, is this set."""
        assert offset > self._sets[-1][0]
        self._sets.append((offset, voters))
        self.latest = voters
        if len(self._sets) > CHANGES_KEPT:
            del self._sets[0]

    def truncate(self, end_offset: int) -> None:
        """The log now ends at `end_offset`: sets from there on never were."""
        while self._sets[-1][0] >= end_offset and len(self._sets) > 1:
            self._sets.pop()
        self.latest = self._sets[-1][1]

    def at(self, end_offset: int) -> VoterSet:
        """The set that the log below `end_offset` says, for a snapshot of it."""
        below = [voters for offset, voters in self._sets if offset < end_offset]
        return below[-1] if below else self._sets[0][1]

    def start_over(self, end_offset: int, voters: VoterSet) -> None:
        """A snapshot that ends at `end_offset` took the place of the log."""
        self._sets = [(end_offset - 1, voters)]
        self.latest = voters
