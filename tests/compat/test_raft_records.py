"""Kafka's DumpLogSegments prints the control records of our Raft, in files of ours."""

from pathlib import Path

from perf.peers import jars
from tailrace.core.raft.control_records import leader_change_batch, voters_batch
from tailrace.core.raft.voters import ReplicaKey, Voter, VoterSet
from tailrace.core.records.batch import stamp
from tests.compat.test_dump_log_segments import dump
from tests.support.peers import require


def test_kafkas_tool_prints_leader_changes_and_voters(tmp_path: Path) -> None:
    require(None if jars.jars() else jars.MISSING)
    voters = VoterSet(
        Voter(ReplicaKey(node_id, bytes([node_id]) * 16), (("CONTROLLER", "localhost", 9093),))
        for node_id in (1, 2, 3)
    )
    written = b""
    for offset, batch in (
        (0, leader_change_batch(1, voters, [ReplicaKey(2)], 5)),
        (1, voters_batch(voters, 5)),
    ):
        stamped = bytearray(batch)
        stamp(stamped, offset, 7)
        written += stamped
    path = tmp_path / "00000000000000000000.log"
    path.write_bytes(written)
    told = dump("--cluster-metadata-decoder", "--files", str(path))
    assert '"leaderId":1,"voters":[{"voterId":1},{"voterId":2},{"voterId":3}]' in told
    assert '"grantingVoters":[{"voterId":2}]' in told
    assert 'KRaftVersion {"version":0,"kRaftVersion":1}' in told
    assert '"voterDirectoryId":"AQEBAQEBAQEBAQEBAQEBAQ"' in told
    assert '{"name":"CONTROLLER","host":"localhost","port":9093}' in told
