"""The quorum as clients see it: what is asked of the controller that leads, and what is refused before."""

from typing import Any

import pytest
from msgspec import Struct

from tailrace.core.errors import (
    INCONSISTENT_CLUSTER_ID,
    INVALID_REQUEST,
    NONE,
    NOT_LEADER_OR_FOLLOWER,
    REQUEST_TIMED_OUT,
    UNKNOWN_TOPIC_OR_PARTITION,
    VOTER_NOT_FOUND,
)
from tailrace.core.ids import ZERO_UUID
from tailrace.core.protocol.apis import ADD_RAFT_VOTER, DESCRIBE_QUORUM, REMOVE_RAFT_VOTER
from tailrace.core.protocol.messages.add_raft_voter import AddRaftVoterRequest, AddRaftVoterRequestListener
from tailrace.core.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumRequestPartition,
    DescribeQuorumRequestTopic,
)
from tailrace.core.protocol.messages.remove_raft_voter import RemoveRaftVoterRequest
from tailrace.core.raft.quorum import QuorumStatus, ReplicaStatus
from tailrace.core.raft.voters import ReplicaKey, Voter
from tailrace.workers.control_quorum import AddVoter, QuorumDescribed, RemoveVoter, VotersChanged
from tailrace.workers.gateway.handlers import describe_quorum, raft_voters
from tests.unit.workers.gateway.fakes import FakeGateway, FakeRequest

DIRECTORY = bytes(range(16))
LISTENER = AddRaftVoterRequestListener("CONTROLLER", "localhost", 9093)


def slow_gateway() -> FakeGateway:
    """Its controller answers when told to."""
    gateway = FakeGateway()
    gateway.peer.is_prompt = False
    return gateway


def describe(gateway: FakeGateway, version: int = 2, /, **partitions: list[int]) -> FakeRequest:
    """Asks for these topics and partitions, or for the one that there is."""
    topics = [
        DescribeQuorumRequestTopic(name, [DescribeQuorumRequestPartition(number) for number in numbers])
        for name, numbers in (partitions or {"__cluster_metadata": [0]}).items()
    ]
    return gateway.ask(describe_quorum.handle, DESCRIBE_QUORUM, version, DescribeQuorumRequest(topics))


def answered(gateway: FakeGateway, **fields: Any) -> None:
    """The controller answers what it was asked last."""
    kind = QuorumDescribed if "status" in fields else VotersChanged
    gateway.controller.on_message(kind(request_id=gateway.peer.sent[-1].request_id, **fields))


def status() -> QuorumStatus:
    """One votes, one follows."""
    voter = ReplicaStatus(ReplicaKey(0, DIRECTORY), 70, 1000, 1000)
    observer = ReplicaStatus(ReplicaKey(7, DIRECTORY), 60, 900, -1)
    return QuorumStatus(0, 5, 69, (voter,), (observer,))


@pytest.mark.parametrize("version", [0, 1, 2])
def test_what_the_leader_knows_is_told_as_far_as_the_version_can(version: int) -> None:
    gateway = slow_gateway()
    request = describe(gateway, version)
    answered(gateway, status=status())
    answer = request.answer
    assert answer.error_code == NONE
    (part,) = answer.topics[0].partitions
    assert (part.leader_id, part.leader_epoch, part.high_watermark) == (0, 5, 69)
    (voter,), (observer,) = part.current_voters, part.observers
    assert (voter.replica_id, voter.log_end_offset, observer.replica_id) == (0, 70, 7)
    assert voter.replica_directory_id == (DIRECTORY if version == 2 else ZERO_UUID)
    assert observer.last_fetch_timestamp == (900 if version else -1)
    assert [node.node_id for node in answer.nodes] == ([0] if version == 2 else [])


@pytest.mark.parametrize(
    "topics", [{"other": [0]}, {"__cluster_metadata": [1]}, {"__cluster_metadata": [0, 1]}]
)
def test_there_is_no_other_quorum(topics: dict[str, list[int]]) -> None:
    gateway = slow_gateway()
    answer = describe(gateway, 2, **topics).answer
    codes = {part.error_code for topic in answer.topics for part in topic.partitions}
    assert codes == {UNKNOWN_TOPIC_OR_PARTITION}
    assert gateway.peer.sent == []


def test_a_leader_that_is_none_any_more_says_so_and_silence_ends() -> None:
    gateway = slow_gateway()
    request = describe(gateway)
    answered(gateway, status=None)
    assert request.answer.error_code == NOT_LEADER_OR_FOLLOWER
    silent = describe(gateway)
    gateway.advance(describe_quorum.PATIENCE_MS)
    assert silent.answer.error_code == REQUEST_TIMED_OUT


def add(gateway: FakeGateway, **fields: Any) -> FakeRequest:
    """A voter that is sound but for what is given."""
    whole: dict[str, Any] = {"cluster_id": gateway.context.cluster_id, "timeout_ms": 1000, "voter_id": 3}
    whole |= {"voter_directory_id": DIRECTORY, "listeners": [LISTENER]}
    asked = AddRaftVoterRequest(**{**whole, **fields})
    return gateway.ask(raft_voters.handle_add, ADD_RAFT_VOTER, 1, asked)


def remove(gateway: FakeGateway, **fields: Any) -> FakeRequest:
    """The same of one that is to go."""
    whole: dict[str, Any] = {"cluster_id": None, "voter_id": 3, "voter_directory_id": DIRECTORY}
    asked: Struct = RemoveRaftVoterRequest(**{**whole, **fields})
    return gateway.ask(raft_voters.handle_remove, REMOVE_RAFT_VOTER, 0, asked)


def test_a_change_of_voters_is_the_controllers_to_decide() -> None:
    gateway = slow_gateway()
    request = add(gateway)
    key = ReplicaKey(3, DIRECTORY)
    assert gateway.peer.sent[-1] == AddVoter(
        request_id=gateway.peer.sent[-1].request_id,
        voter=Voter(key, (("CONTROLLER", "localhost", 9093),)),
        ack_when_committed=True,
    )
    answered(gateway, error_code=NONE, error_message=None)
    assert (request.answer.error_code, request.answer.error_message) == (NONE, None)
    request = remove(gateway)
    assert gateway.peer.sent[-1] == RemoveVoter(request_id=gateway.peer.sent[-1].request_id, key=key)
    answered(gateway, error_code=VOTER_NOT_FOUND, error_message="why")
    assert (request.answer.error_code, request.answer.error_message) == (VOTER_NOT_FOUND, "why")
    silent = add(gateway, ack_when_committed=False)
    assert not gateway.peer.sent[-1].ack_when_committed
    gateway.advance(1000)
    assert silent.answer.error_code == REQUEST_TIMED_OUT


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"cluster_id": "another"}, INCONSISTENT_CLUSTER_ID),
        ({"voter_id": -1}, INVALID_REQUEST),
        ({"voter_directory_id": ZERO_UUID}, INVALID_REQUEST),
    ],
)
def test_what_makes_no_sense_is_refused_here(fields: dict[str, Any], code: int) -> None:
    gateway = slow_gateway()
    assert add(gateway, **fields).answer.error_code == code
    assert remove(gateway, **fields).answer.error_code == code
    assert add(gateway, listeners=[]).answer.error_code == INVALID_REQUEST
    assert gateway.peer.sent == []
