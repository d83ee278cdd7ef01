"""AddRaftVoter and RemoveRaftVoter: which controllers vote, decided by the one that leads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.errors import INCONSISTENT_CLUSTER_ID, INVALID_REQUEST, NONE, REQUEST_TIMED_OUT, KafkaError
from tailrace.core.ids import ZERO_UUID
from tailrace.core.protocol.messages.add_raft_voter import AddRaftVoterRequest, AddRaftVoterResponse
from tailrace.core.protocol.messages.remove_raft_voter import RemoveRaftVoterRequest, RemoveRaftVoterResponse
from tailrace.core.raft.voters import ReplicaKey, Voter
from tailrace.workers.control_quorum import AddVoter, RemoveVoter, VotersChanged

if TYPE_CHECKING:
    from tailrace.workers.gateway.controller_requests import Answer
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request

PATIENCE_MS = 10_000  # RemoveRaftVoter names no time-out


def handle_add(gateway: Gateway, request: Request) -> None:
    """One more, which follows already."""
    asked: AddRaftVoterRequest = request.decode()
    try:
        key = _key(gateway, asked.cluster_id, asked.voter_id, asked.voter_directory_id, "Add")
        if not asked.listeners:
            raise KafkaError(
                INVALID_REQUEST,
                "Add voter request didn't include the endpoint (Endpoints(endpoints={})) for the default "
                "listener ListenerName(CONTROLLER)",
            )
    except KafkaError as error:
        request.respond(AddRaftVoterResponse(error_code=error.code, error_message=error.message))
        return
    endpoints = tuple((listener.name, listener.host, listener.port) for listener in asked.listeners)

    def on_answer(answer: Answer) -> None:
        code, message = _outcome(answer)
        request.respond(AddRaftVoterResponse(error_code=code, error_message=message))

    voter, waits = Voter(key, endpoints), asked.ack_when_committed
    gateway.controller.ask(
        lambda number: AddVoter(request_id=number, voter=voter, ack_when_committed=waits),
        on_answer,
        asked.timeout_ms,
    )


def handle_remove(gateway: Gateway, request: Request) -> None:
    """One less; it goes on as an observer."""
    asked: RemoveRaftVoterRequest = request.decode()
    try:
        key = _key(gateway, asked.cluster_id, asked.voter_id, asked.voter_directory_id, "Remove")
    except KafkaError as error:
        request.respond(RemoveRaftVoterResponse(error_code=error.code, error_message=error.message))
        return

    def on_answer(answer: Answer) -> None:
        code, message = _outcome(answer)
        request.respond(RemoveRaftVoterResponse(error_code=code, error_message=message))

    gateway.controller.ask(lambda number: RemoveVoter(request_id=number, key=key), on_answer, PATIENCE_MS)


def _key(
    gateway: Gateway, cluster_id: str | None, voter_id: int, directory_id: bytes, doing: str
) -> ReplicaKey:
    """Of whom it is about; KafkaError as Kafka says it."""
    own = gateway.context.cluster_id
    if cluster_id is not None and cluster_id != own:
        raise KafkaError(
            INCONSISTENT_CLUSTER_ID, f'The given id "{cluster_id}" doesn\'t match the cluster id "{own}"'
        )
    if voter_id < 0 or directory_id == ZERO_UUID:
        raise KafkaError(INVALID_REQUEST, f"{doing} voter request didn't include a valid voter")
    return ReplicaKey(voter_id, bytes(directory_id))


def _outcome(answer: Answer) -> tuple[int, str | None]:
    if not isinstance(answer, VotersChanged):
        return REQUEST_TIMED_OUT, "The request timed out."
    return answer.error_code, answer.error_message if answer.error_code != NONE else None
