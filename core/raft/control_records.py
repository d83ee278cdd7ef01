"""The records that Raft writes itself, as Kafka does: control batches that its own tools can print.

record key     version i16, type i16: 2 a new leader, 5 the level of the protocol, 6 the voters
record value   the message of that type, which starts with its version
"""

from collections.abc import Iterable
from struct import Struct as Layout

from msgspec import Struct

from tailrace.core.protocol.compile import decode, encode
from tailrace.core.protocol.schema import NO_ID, Int16, Int32, String, Uint16, Uuid, message
from tailrace.core.raft.voters import ReplicaKey, Voter, VoterSet
from tailrace.core.records.record import NewRecord, build_batch, iterate_batch

LEADER_CHANGE = 2
KRAFT_VERSION = 5
KRAFT_VOTERS = 6

LEVEL = 1  # kraft.version: voters are in the log, with their directories

KEY = Layout(">hh")


class LeaderChangeVoter(Struct, gc=False):
    """A voter as a leader names it."""

    voter_id: Int32 = 0


@message(versions=(0, 0), flexible=0)  # there is a 1, which Kafka neither writes nor can its tools print
class LeaderChangeMessage(Struct, gc=False):
    """Who leads the epoch of its batch, and who voted for it."""

    version: Int16 = 0
    leader_id: Int32 = 0
    voters: list[LeaderChangeVoter] = []
    granting_voters: list[LeaderChangeVoter] = []


@message(versions=(0, 0), flexible=0)
class KRaftVersionRecord(Struct, gc=False):
    """The level of the protocol."""

    version: Int16 = 0
    k_raft_version: Int16 = 0


class VotersRecordEndpoint(Struct, gc=False):
    """Where a voter listens."""

    name: String = ""
    host: String = ""
    port: Uint16 = 0


class VotersRecordKRaftVersionFeature(Struct, gc=False, frozen=True):
    """The levels of the protocol that a voter knows."""

    min_supported_version: Int16 = 0
    max_supported_version: Int16 = 0


class VotersRecordVoter(Struct, gc=False):
    """One voter."""

    voter_id: Int32 = 0
    voter_directory_id: Uuid = NO_ID
    endpoints: list[VotersRecordEndpoint] = []
    k_raft_version_feature: VotersRecordKRaftVersionFeature = VotersRecordKRaftVersionFeature()


@message(versions=(0, 0), flexible=0)
class VotersRecord(Struct, gc=False):
    """All voters from here on."""

    version: Int16 = 0
    voters: list[VotersRecordVoter] = []


def leader_change_batch(
    leader_id: int, voters: VoterSet, granting: Iterable[ReplicaKey], now_ms: int
) -> bytes:
    """The first batch of an epoch."""
    value = LeaderChangeMessage(
        0,
        leader_id,
        [LeaderChangeVoter(node_id) for node_id in voters.ids],
        [LeaderChangeVoter(key.node_id) for key in granting],
    )
    return _control_batch([_record(LEADER_CHANGE, encode(value, 0), now_ms)])


def voters_batch(voters: VoterSet, now_ms: int) -> bytes:
    """A new set of voters, with the level at which a log has one."""
    listed = [
        VotersRecordVoter(
            voter.key.node_id,
            voter.key.directory_id,
            [VotersRecordEndpoint(*endpoint) for endpoint in voter.endpoints],
            VotersRecordKRaftVersionFeature(0, LEVEL),
        )
        for voter in voters
    ]
    return _control_batch(
        [
            _record(KRAFT_VERSION, encode(KRaftVersionRecord(0, LEVEL), 0), now_ms),
            _record(KRAFT_VOTERS, encode(VotersRecord(0, listed), 0), now_ms),
        ]
    )


def voters_of(batch: bytes | memoryview) -> tuple[int, VoterSet] | None:
    """(offset, voters) of the record in a control batch that sets them; None if it has none."""
    for record in iterate_batch(bytes(batch)):
        if record.key is None or record.value is None or len(record.key) < KEY.size:
            continue
        if KEY.unpack_from(record.key)[1] != KRAFT_VOTERS:
            continue
        found = decode(VotersRecord, 0, record.value)
        return record.offset, VoterSet(
            Voter(
                ReplicaKey(voter.voter_id, voter.voter_directory_id),
                tuple((endpoint.name, endpoint.host, endpoint.port) for endpoint in voter.endpoints),
            )
            for voter in found.voters
        )
    return None


def _record(kind: int, value: bytes, now_ms: int) -> NewRecord:
    return NewRecord(key=KEY.pack(0, kind), value=value, timestamp=now_ms)


def _control_batch(records: list[NewRecord]) -> bytes:
    return bytes(build_batch(records, control=True))
