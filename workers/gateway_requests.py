"""What gateways ask of the controller: decided on the image, staged, and passed on to the workers.

An answer leaves the controller with the commit of what it tells of (see workers/controller.py).
"""

import os
import time
from collections.abc import Sequence
from functools import partial

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.ids import is_usable_uuid
from tailrace.core.metadata.configs import Resource, alter_configs, told_configs
from tailrace.core.metadata.image import TopicImage
from tailrace.core.metadata.partitions import create_partitions
from tailrace.core.metadata.placement import choose_directories
from tailrace.core.metadata.producer_ids import BLOCK_SIZE, allocate_block
from tailrace.core.metadata.records import NO_LEADER, RESOURCE_BROKER, RESOURCE_TOPIC, Record
from tailrace.core.metadata.requests import ConfigResult, TopicResult
from tailrace.core.metadata.topics import Decision, TopicDefaults, create_topics, delete_topics
from tailrace.workers.assignments import Assignments
from tailrace.workers.control import (
    AllocateProducerIds,
    AlterConfigs,
    ConfigResults,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    ProducerIds,
    TopicResults,
)
from tailrace.workers.metadata_log import MetadataLog
from tailrace.workers.process import Broker, ProcessContext

GatewayRequest = CreateTopics | DeleteTopics | CreatePartitions | AlterConfigs | AllocateProducerIds


class GatewayRequests:
    """Answers each request once."""

    def __init__(self, context: ProcessContext, log: MetadataLog, assignments: Assignments) -> None:
        self._context = context
        self._log = log
        self._assignments = assignments

    def take(self, slot: int, incarnation: int, request: GatewayRequest) -> None:
        """Answer the incarnation that asked and no other (R): its successor has requests of that number."""
        self._context.outbox.send(slot, self._decide(slot, request), only=incarnation)

    def _decide(self, slot: int, request: GatewayRequest) -> TopicResults | ConfigResults | ProducerIds:
        match request:
            case CreateTopics():
                return self._topic_results(request.request_id, self._create_topics(request))
            case DeleteTopics():
                return self._topic_results(request.request_id, self._delete_topics(request))
            case CreatePartitions():
                return self._topic_results(request.request_id, self._create_partitions(request))
            case AlterConfigs():
                asked = self._context.brokers[self._context.layout.broker_of(slot)]
                return self._alter_configs(request, asked)
            case AllocateProducerIds():
                return self._allocate_producer_ids(request)

    def _topic_results(self, request_id: int, results: list[TopicResult]) -> TopicResults:
        offset = self._log.image.metadata_offset
        return TopicResults(request_id=request_id, metadata_offset=offset, results=results)

    def _create_topics(self, request: CreateTopics) -> list[TopicResult]:
        decision = create_topics(self._log.image, request.topics, self._defaults(), _new_topic_id)
        if request.validate_only:
            return decision.results
        decision = self._placed(decision)
        results = self._stage_decision(decision)
        for result in results:
            if result.error_code == errors.NONE:
                self._assign_new(self._log.image.topics_by_id[result.topic_id])
        return results

    def _create_partitions(self, request: CreatePartitions) -> list[TopicResult]:
        image = self._log.image
        decision = create_partitions(image, request.topics, self._assignments.rows_free)
        if request.validate_only:
            return decision.results
        decision = self._placed(decision)
        before = {name: len(topic.partitions) for name, topic in image.topics_by_name.items()}
        results = self._stage_decision(decision)
        for result in results:
            if result.error_code == errors.NONE:
                topic = image.topics_by_id[result.topic_id]
                self._assign_new(topic, before[topic.name])
        return results

    def _placed(self, decision: Decision) -> Decision:
        """The same with a log directory for each new partition."""
        online = {
            broker.node_id: [log_dir.directory_id for log_dir in broker.log_dirs.online()]
            for broker in self._context.brokers
        }
        records = choose_directories(decision.records, self._log.image.logs_by_directory, online)
        return Decision(records=records, results=decision.results)

    def _assign_new(self, topic: TopicImage, first: int = 0) -> None:
        configs = {
            broker.node_id: told_configs(self._log.image, topic.name, broker.node_id)
            for broker in self._context.brokers
        }
        for partition in topic.partitions[first:]:
            broker = partition.replicas[0]
            self._assignments.assign(
                topic.name,
                topic.topic_id,
                partition.partition,
                partition.leader_epoch,
                configs[broker],
                broker=broker,
                log_dir=self._path_of(broker, partition.directory),
                is_new=True,
                offline_code=errors.NOT_LEADER_OR_FOLLOWER if partition.leader == NO_LEADER else errors.NONE,
            )

    def _path_of(self, broker: int, directory_id: str) -> str:
        log_dir = self._context.log_dirs_of(broker).by_id(directory_id)
        return "" if log_dir is None else log_dir.path  # the last one has just failed: that broker ends

    def _delete_topics(self, request: DeleteTopics) -> list[TopicResult]:
        decision = delete_topics(self._log.image, request.topics, self._defaults())
        counts = {
            result.topic_id: len(self._log.image.topics_by_id[result.topic_id].partitions)
            for result in decision.results
            if result.error_code == errors.NONE
        }
        results = self._stage_decision(decision)
        for result in results:
            if result.error_code == errors.NONE:
                self._assignments.delete_topic(result.topic_id, counts[result.topic_id])
        return results

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
        if records:
            try:
                self._log.stage(records, _now_ms())
            except KafkaError as error:
                return error
        return None

    def _alter_configs(self, request: AlterConfigs, asked: Broker) -> ConfigResults:
        """`asked`: the broker whose gateway was asked; of brokers only its own keys can be altered there."""
        image = self._log.image
        alteration = alter_configs(
            image,
            request.resources,
            asked.config,
            asked.node_id,
            replaces_all=request.replaces_all,
        )
        results = alteration.results
        if not request.validate_only:
            failure = self._stage(alteration.records)
            if failure is None:
                self._configure(alteration.changed)
            else:
                failed = ConfigResult(error_code=failure.code, error_message=failure.message)
                results = [result if result.error_code else failed for result in results]
        return ConfigResults(
            request_id=request.request_id, metadata_offset=image.metadata_offset, results=results
        )

    def _configure(self, changed: Sequence[Resource]) -> None:
        """Tell the workers of the topics that have other configs now: all, if the broker's changed."""
        image = self._log.image
        if any(kind == RESOURCE_BROKER for kind, _ in changed):
            names = list(image.topics_by_name)
        else:
            names = [name for kind, name in changed if kind == RESOURCE_TOPIC]
        for name in names:
            topic = image.topics_by_name[name]
            told = partial(told_configs, image, name)
            self._assignments.configure(topic.topic_id, len(topic.partitions), told)

    def _allocate_producer_ids(self, request: AllocateProducerIds) -> ProducerIds:
        allocated = allocate_block(self._log.image)
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
            partitions_free=self._assignments.rows_free,
            delete_enabled=config.delete_topic_enable,
        )


def _new_topic_id() -> bytes:
    while True:
        topic_id = os.urandom(16)
        if is_usable_uuid(topic_id):
            return topic_id


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
