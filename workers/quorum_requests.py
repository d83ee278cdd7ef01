"""What gateways ask about the quorum itself, answered by the controller that leads it.

An answer leaves the controller once what it staged is committed (quorum_member.py), so a changed set of
voters is told when it counts for good; but for an AddVoter that does not wait for that.
"""

from tailrace.core.errors import NONE, KafkaError
from tailrace.workers.control_quorum import (
    AddVoter,
    DescribeQuorum,
    QuorumDescribed,
    RemoveVoter,
    VotersChanged,
)
from tailrace.workers.quorum import Quorum

QuorumRequest = DescribeQuorum | AddVoter | RemoveVoter


def answer(quorum: Quorum, request: QuorumRequest) -> QuorumDescribed | VotersChanged:
    """Does what is asked."""
    try:
        match request:
            case DescribeQuorum():
                return QuorumDescribed(request_id=request.request_id, status=quorum.describe())
            case AddVoter():
                quorum.add_voter(request.voter)
            case RemoveVoter():
                quorum.remove_voter(request.key)
    except KafkaError as error:
        if isinstance(request, DescribeQuorum):
            return QuorumDescribed(request_id=request.request_id, status=None)
        code, message = error.code, error.message
        return VotersChanged(request_id=request.request_id, error_code=code, error_message=message)
    return VotersChanged(request_id=request.request_id, error_code=NONE, error_message=None)
