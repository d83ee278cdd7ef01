"""When the controller that leads answers those who change the set of voters."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.core.errors import NONE
from tailrace.core.metadata.requests import NewTopic
from tailrace.core.raft.voters import ReplicaKey, Voter
from tailrace.workers.control import CreateTopics, Message, TopicResults
from tailrace.workers.control_quorum import AddVoter, RemoveVoter, VotersChanged
from tailrace.workers.quorum import FETCH_BYTES_MAX, PIECE_BYTES_MAX
from tailrace.workers.quorum_member import Member
from tests.unit.workers.cluster_run import Cluster
from tests.unit.workers.controller_run import heard, say


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One of its three controllers follows without a vote."""
    made = Cluster(tmp_path)
    made.say(made.gateways[0], RemoveVoter(request_id=1, key=follower(made)))
    assert heard(made.gateways[0]) == [accepted(1)]
    yield made
    made.end()


def leader(cluster: Cluster) -> Member:
    """The one that decides."""
    return cluster.members[cluster.active]


def follower(cluster: Cluster) -> ReplicaKey:
    """Another than the one that decides."""
    return cluster.members[(cluster.active + 1) % 3].log.quorum.node.key


def accepted(request_id: int) -> VotersChanged:
    """The answer."""
    return VotersChanged(request_id=request_id, error_code=NONE, error_message=None)


def answers_of_one_alone(cluster: Cluster, *asked: Message) -> list[Message]:
    """What is answered while the others do nothing: what is asked cannot be committed."""
    for message in asked:
        say(cluster.gateways[0], cluster.layout.controller(cluster.active), message)
    for _ in range(3):
        assert leader(cluster).turn()
    assert not leader(cluster).log.is_committed
    return heard(cluster.gateways[0])


@pytest.mark.parametrize("waits", [False, True])
def test_a_voter_is_added_and_the_answer_waits_for_the_commit_if_it_is_to(
    cluster: Cluster, waits: bool
) -> None:
    voter = Voter(follower(cluster))
    asked = AddVoter(request_id=2, voter=voter, ack_when_committed=waits)
    assert answers_of_one_alone(cluster, asked) == ([] if waits else [accepted(2)])
    assert voter.key in leader(cluster).log.quorum.node.voters.latest
    cluster.settle()
    assert heard(cluster.gateways[0]) == ([accepted(2)] if waits else [])


def test_an_answer_that_waits_for_no_commit_takes_none_with_it_that_does(cluster: Cluster) -> None:
    """(R)"""
    topic = NewTopic(name="t", assignments=[(0, [0])])
    creating = CreateTopics(request_id=2, topics=[topic], validate_only=False, timeout_ms=1000)
    assert answers_of_one_alone(cluster, creating) == []
    voter = Voter(follower(cluster))
    adding = AddVoter(request_id=3, voter=voter, ack_when_committed=False)
    assert answers_of_one_alone(cluster, adding) == []
    assert voter.key in leader(cluster).log.quorum.node.voters.latest
    cluster.settle()
    answers = heard(cluster.gateways[0])
    assert any(isinstance(message, TopicResults) for message in answers)
    assert accepted(3) in answers


def test_what_is_fetched_at_a_time_is_bounded_by_the_configuration_and_by_the_ring(tmp_path: Path) -> None:
    bounds = {"controller_quorum_fetch_max_bytes": "7", "controller_quorum_fetch_snapshot_max_bytes": "9"}
    for name, given in (("few", bounds), ("many", {})):
        path = tmp_path / name
        path.mkdir()
        cluster = Cluster(path, 3, **given)
        settings = leader(cluster).log.quorum.node.settings
        cluster.end()
        assert (settings.fetch_bytes_max, settings.snapshot_piece_bytes) == (
            (7, 9) if given else (FETCH_BYTES_MAX, PIECE_BYTES_MAX)
        )
