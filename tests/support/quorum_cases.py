"""The same requests about the controllers' quorum for any broker, and their answers without what differs
by nature: offsets, times, ids, and why a voter that does not follow is not taken.
"""

import re
from collections.abc import Iterator
from typing import Any, cast

from msgspec import Struct

from tailrace.core.errors import REQUEST_TIMED_OUT, ProtocolError
from tailrace.core.protocol.apis import ADD_RAFT_VOTER, DESCRIBE_QUORUM, REMOVE_RAFT_VOTER
from tailrace.core.protocol.compile import decode
from tailrace.core.protocol.messages.add_raft_voter import AddRaftVoterRequest, AddRaftVoterRequestListener
from tailrace.core.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumRequestPartition,
    DescribeQuorumRequestTopic,
    DescribeQuorumResponse,
)
from tailrace.core.protocol.messages.remove_raft_voter import RemoveRaftVoterRequest
from tests.support.raw_client import RawClient

METADATA = "__cluster_metadata"
DIRECTORY, NOTHING = bytes(range(16)), bytes(16)
LISTENERS = [AddRaftVoterRequestListener("CONTROLLER", "127.0.0.1", 9)]
NUMBERS = {
    *("log_end_offset", "last_fetch_timestamp", "last_caught_up_timestamp"),
    *("high_watermark", "leader_epoch"),
}

Case = tuple[str, int, int, Struct]


def described(*topics: tuple[str, list[int]]) -> DescribeQuorumRequest:
    """Asks for these partitions."""
    return DescribeQuorumRequest(
        [
            DescribeQuorumRequestTopic(name, [DescribeQuorumRequestPartition(number) for number in numbers])
            for name, numbers in topics
        ]
    )


def voters(address: str) -> list[tuple[int, bytes]]:
    """Ids and directories; none while it is starting."""
    try:
        with RawClient(address) as client:
            client.ask(DESCRIBE_QUORUM, 2, described((METADATA, [0])))
            answer = decode(DescribeQuorumResponse, 2, client.last[5:])
    except (OSError, ProtocolError):
        return []
    parts = [part for topic in answer.topics for part in topic.partitions]
    listed = [voter for part in parts for voter in part.current_voters]
    return [(voter.replica_id, bytes(voter.replica_directory_id)) for voter in listed]


def cases(cluster_id: str, own: tuple[int, bytes]) -> Iterator[Case]:
    """What is asked of a quorum of one, `own` being the one."""
    for version in (0, 1, 2):
        yield f"described {version}", DESCRIBE_QUORUM, version, described((METADATA, [0]))
        yield f"another {version}", DESCRIBE_QUORUM, version, described(("other", [0]))
    yield "none", DESCRIBE_QUORUM, 2, described()
    yield "no partitions", DESCRIBE_QUORUM, 2, described((METADATA, []))
    yield "two partitions", DESCRIBE_QUORUM, 2, described((METADATA, [0, 1]))
    yield "two topics", DESCRIBE_QUORUM, 2, described((METADATA, [0]), ("other", [0]))
    for name, cluster, node_id, directory in (
        ("another cluster", "bad", 9, DIRECTORY),
        ("no directory", cluster_id, 9, NOTHING),
        ("no id", cluster_id, -5, DIRECTORY),
        ("unknown", cluster_id, 9, DIRECTORY),
        ("any cluster", None, 9, DIRECTORY),
        ("another directory", cluster_id, own[0], DIRECTORY),
        ("the only one", cluster_id, *own),
    ):
        for version in (0, 1):
            added = AddRaftVoterRequest(cluster, 2000, node_id, directory, LISTENERS)
            yield f"add {version} {name}", ADD_RAFT_VOTER, version, added
        yield f"remove {name}", REMOVE_RAFT_VOTER, 0, RemoveRaftVoterRequest(cluster, node_id, directory)
    yield "nowhere", ADD_RAFT_VOTER, 1, AddRaftVoterRequest(cluster_id, 2000, 9, DIRECTORY, [])


def answers(address: str, cluster_id: str) -> dict[str, Any]:
    """By what was asked for."""
    (own,) = voters(address)
    with RawClient(address) as client:
        return {
            name: _plain(client.ask(key, version, asked))
            for name, key, version, asked in cases(cluster_id, own)
        }


def _plain(answer: object) -> object:
    if isinstance(answer, list):
        return [_plain(part) for part in cast("list[object]", answer)]
    if not isinstance(answer, dict):
        return answer
    fields = dict(cast("dict[str, object]", answer))
    message = fields.get("error_message")
    if fields.get("error_code") == REQUEST_TIMED_OUT:
        fields["error_message"], fields["size"] = "it does not follow", 0
    elif isinstance(message, str):
        fields["error_message"] = re.sub(r"directoryId=[\w-]{22}", "directoryId=", message)
    return {name: _number(part) if name in NUMBERS else _plain(part) for name, part in fields.items()}


def _number(value: object) -> str:
    return "unknown" if value == -1 else "none" if value == 0 else "some"
