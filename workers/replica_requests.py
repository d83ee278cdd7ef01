"""What gateways ask of the controller that may take the leadership from somebody who lives: elections, moves,
brokers that are given up.
"""

from collections.abc import Callable

from msgspec.structs import replace

from tailrace.core.errors import KafkaError
from tailrace.core.metadata.brokers import unregister
from tailrace.core.metadata.elections import elect_leaders
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.reassignments import reassign
from tailrace.core.metadata.records import Record
from tailrace.core.metadata.requests import PartitionResult
from tailrace.workers.assignments import Assignments
from tailrace.workers.changes import Changes
from tailrace.workers.control import ElectLeaders, PartitionResults, Reassign, UnregisterBroker

ReplicaRequest = ElectLeaders | Reassign | UnregisterBroker
Decided = tuple[list[Record], list[PartitionResult]]
"""What to stage, and what each partition is answered."""


class ReplicaRequests:
    """Answers each request once, in a later turn if leaders have to resign first."""

    def __init__(self, changes: Changes, assignments: Assignments) -> None:
        self._changes = changes
        self._assignments = assignments

    def take(self, request: ReplicaRequest, answer: Callable[[PartitionResults], None]) -> None:
        """Decide and stage; `answer` is then called with what the gateway is told."""

        def done(results: list[PartitionResult] | None, refusal: KafkaError | None) -> None:
            told = PartitionResults(
                request_id=request.request_id, metadata_offset=self._changes.image.metadata_offset
            )
            if refusal is not None:
                answer(replace(told, error_code=refusal.code, error_message=refusal.message))
            else:
                answer(replace(told, results=results or []))

        self._changes.replace(lambda image: self._decide(image, request), done)

    def _decide(self, image: MetadataImage, request: ReplicaRequest) -> Decided:
        rules = self._changes.rules()
        match request:
            case ElectLeaders():
                elected = elect_leaders(image, request.election_type, request.partitions, rules)
                return elected.records, elected.results
            case Reassign():
                moved = reassign(
                    image,
                    request.moves,
                    rules,
                    replication_factor_may_change=request.replication_factor_may_change,
                    replicas_free=self._assignments.seats.rows_free,
                )
                return moved.records, moved.results
            case UnregisterBroker():
                return unregister(image, request.broker_id, rules), []
