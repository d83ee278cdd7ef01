"""What gateways ask of the controller: decided on the image, and staged (workers/changes.py).

An answer leaves the controller with the commit of what it tells of (see workers/controller.py).
"""

import os
from collections.abc import Sequence

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.ids import is_usable_uuid
from tailrace.core.metadata.configs import alter_configs
from tailrace.core.metadata.partitions import create_partitions
from tailrace.core.metadata.producer_ids import BLOCK_SIZE, allocate_block
from tailrace.core.metadata.records import Record
from tailrace.core.metadata.requests import ConfigResult, TopicResult
from tailrace.core.metadata.topics import Decision, TopicDefaults, create_topics, delete_topics
from tailrace.workers.assignments import Assignments
from tailrace.workers.changes import Changes
from tailrace.workers.control import (
    AllocateProducerIds,
    AlterConfigs,
    ConfigResults,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    ElectLeaders,
    PartitionResults,
    ProducerIds,
    Reassign,
    TopicResults,
    UnregisterBroker,
)
from tailrace.workers.control_moves import MoveReplicas
from tailrace.workers.dir_moves import DirMoves
from tailrace.workers.process import Broker, ProcessContext
from tailrace.workers.replica_requests import ReplicaRequest, ReplicaRequests

DecidedAtOnce = CreateTopics | DeleteTopics | CreatePartitions | AlterConfigs | AllocateProducerIds
GatewayRequest = DecidedAtOnce | MoveReplicas | ReplicaRequest


class GatewayRequests:
    """Answers each request once."""

    def __init__(
        self, context: ProcessContext, changes: Changes, assignments: Assignments, moves: DirMoves
    ) -> None:
        self._moves = moves
        self._context = context
        self._changes = changes
        self._assignments = assignments
        self._replica_requests = ReplicaRequests(changes, assignments)

    def take(self, slot: int, incarnation: int, request: GatewayRequest) -> None:
        """Answer the incarnation that asked and no other (R): its successor has requests of that number."""

        def answer(message: TopicResults | ConfigResults | ProducerIds | PartitionResults) -> None:
            self._context.outbox.send(slot, message, only=incarnation)

        if isinstance(request, ElectLeaders | Reassign | UnregisterBroker):
            self._replica_requests.take(request, answer)
        elif isinstance(request, MoveReplicas):
            results = self._moves.begin(self._asked(slot), request)
            offset = self._changes.image.metadata_offset
            answer(PartitionResults(request_id=request.request_id, metadata_offset=offset, results=results))
        else:
            answer(self._decide(slot, request))

    def _decide(self, slot: int, request: DecidedAtOnce) -> TopicResults | ConfigResults | ProducerIds:
        match request:
            case CreateTopics():
                return self._topic_results(request.request_id, self._create_topics(request))
            case DeleteTopics():
                decision = delete_topics(self._changes.image, request.topics, self._defaults())
                return self._topic_results(request.request_id, self._stage_decision(decision))
            case CreatePartitions():
                return self._topic_results(request.request_id, self._create_partitions(request))
            case AlterConfigs():
                return self._alter_configs(request, self._asked(slot))
            case AllocateProducerIds():
                return self._allocate_producer_ids(request)

    def _asked(self, slot: int) -> Broker:
        """That of the gateway in this slot."""
        return self._context.brokers[self._context.layout.broker_of(slot)]

    def _topic_results(self, request_id: int, results: list[TopicResult]) -> TopicResults:
        offset = self._changes.image.metadata_offset
        return TopicResults(request_id=request_id, metadata_offset=offset, results=results)

    def _create_topics(self, request: CreateTopics) -> list[TopicResult]:
        decision = create_topics(self._changes.image, request.topics, self._defaults(), _new_topic_id)
        return decision.results if request.validate_only else self._stage_decision(decision)

    def _create_partitions(self, request: CreatePartitions) -> list[TopicResult]:
        decision = create_partitions(self._changes.image, request.topics, self._assignments.seats.rows_free)
        return decision.results if request.validate_only else self._stage_decision(decision)

    def _stage_decision(self, decision: Decision) -> list[TopicResult]:
        """Stage its records; when the disk does not take them, every topic that would have changed gets that
        error.
        """
        failure = self._stage(decision.records)
        if failure is None:
            return decision.results
        return [
            result
            if result.error_code
            else TopicResult(name=result.name, error_code=failure.code, error_message=failure.message)
            for result in decision.results
        ]

    def _stage(self, records: Sequence[Record]) -> KafkaError | None:
        try:
            self._changes.stage(records)
        except KafkaError as error:
            return error
        return None

    def _alter_configs(self, request: AlterConfigs, asked: Broker) -> ConfigResults:
        """`asked`: the broker whose gateway was asked; of brokers only its own keys can be altered there."""
        alteration = alter_configs(
            self._changes.image,
            request.resources,
            asked.config,
            asked.node_id,
            replaces_all=request.replaces_all,
        )
        results = alteration.results
        if not request.validate_only:
            failure = self._stage(alteration.records)
            if failure is not None:
                failed = ConfigResult(error_code=failure.code, error_message=failure.message)
                results = [result if result.error_code else failed for result in results]
        return ConfigResults(
            request_id=request.request_id,
            metadata_offset=self._changes.image.metadata_offset,
            results=results,
        )

    def _allocate_producer_ids(self, request: AllocateProducerIds) -> ProducerIds:
        allocated = allocate_block(self._changes.image)
        first, count, code = -1, 0, errors.UNKNOWN_SERVER_ERROR
        if allocated is not None:
            failure = self._stage([allocated[1]])
            if failure is None:
                first, count, code = allocated[0], BLOCK_SIZE, errors.NONE
            else:
                code = failure.code
        return ProducerIds(
            request_id=request.request_id, first_producer_id=first, count=count, error_code=code
        )

    def _defaults(self) -> TopicDefaults:
        config = self._context.config
        return TopicDefaults(
            num_partitions=config.num_partitions,
            replication_factor=config.default_replication_factor,
            partitions_free=self._assignments.seats.rows_free,
            delete_enabled=config.delete_topic_enable,
        )


def _new_topic_id() -> bytes:
    while True:
        topic_id = os.urandom(16)
        if is_usable_uuid(topic_id):
            return topic_id
