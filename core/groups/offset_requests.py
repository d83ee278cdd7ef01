"""OffsetCommit, OffsetFetch and OffsetDelete: what each version is told, and what is written.

Topics that do not exist are refused before the group is looked at. Offsets are kept with the id of their
topic, whichever way the client named it.
"""

from collections.abc import Mapping

from tailrace.core.errors import (
    GROUP_ID_NOT_FOUND,
    GROUP_SUBSCRIBED_TO_TOPIC,
    ILLEGAL_GENERATION,
    INVALID_GROUP_ID,
    INVALID_REQUEST,
    NONE,
    OFFSET_METADATA_TOO_LARGE,
    UNKNOWN_TOPIC_ID,
    UNKNOWN_TOPIC_OR_PARTITION,
)
from tailrace.core.groups.classic import ClassicGroup
from tailrace.core.groups.classic_answers import append_error
from tailrace.core.groups.consumer import ConsumerGroup
from tailrace.core.groups.consumer_requests import STRING_BYTES_MAX
from tailrace.core.groups.group import Group, is_subscribed, offset_delete_error
from tailrace.core.groups.offsets import NEVER, Commit, OffsetStore
from tailrace.core.groups.records import OffsetCommitValue
from tailrace.core.groups.runtime import GroupRequest, Runtime
from tailrace.core.ids import ZERO_UUID
from tailrace.core.metadata.image import TopicImage
from tailrace.core.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from tailrace.core.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)
from tailrace.core.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponseTopic,
)

COMMIT_BY_ID = 10
COMMIT_TELLS_UNKNOWN_GROUPS = 9
FETCH_OF_SEVERAL = 8
FETCH_BY_ID = 10
NO_OFFSET = -1
TIME_MAX = 2**63 - 1


class OffsetRequests:
    """Answers them for the groups of one shard."""

    def __init__(self, runtime: Runtime, store: OffsetStore, groups: Mapping[str, Group]) -> None:
        self._runtime = runtime
        self._store = store
        self._groups = groups

    # -- OffsetCommit

    def commit(self, request: GroupRequest) -> None:
        """Keep offsets, if the group lets this member; answered once they are in the log."""
        message: OffsetCommitRequest = request.message
        answer = OffsetCommitResponse()
        topics = self._existing(message, request.version, answer)
        error = self._commit_error(message, topics, request.version) if topics else NONE
        commits: list[Commit] = []
        committed: list[OffsetCommitResponsePartition] = []
        for asked, topic in topics:
            told_topic = _told_of(answer, asked)
            for partition in asked.partitions:
                told = OffsetCommitResponsePartition(
                    partition_index=partition.partition_index, error_code=error
                )
                told_topic.partitions.append(told)
                if error != NONE:
                    continue
                metadata = partition.committed_metadata or ""
                if _java_length(metadata) > self._runtime.config.offset_metadata_max_bytes:
                    told.error_code = OFFSET_METADATA_TOO_LARGE
                    continue
                committed.append(told)
                commits.append(
                    (topic.name, partition.partition_index, self._value(message, topic, partition, metadata))
                )

        def written(error: int) -> None:
            for told in committed:
                told.error_code = append_error(error)
            request.reply(answer)

        if commits:
            self._store.commit(message.group_id, commits, written)
        else:
            request.reply(answer)

    def _existing(
        self, message: OffsetCommitRequest, version: int, answer: OffsetCommitResponse
    ) -> list[tuple[OffsetCommitRequestTopic, TopicImage]]:
        """What is asked about partitions there are; of the others the answer is told."""
        image = self._runtime.image
        found: list[tuple[OffsetCommitRequestTopic, TopicImage]] = []
        for asked in message.topics:
            by_id = version >= COMMIT_BY_ID
            topic = image.topics_by_id.get(asked.topic_id) if by_id else image.topics_by_name.get(asked.name)
            count = 0 if topic is None else len(topic.partitions)
            there = [partition for partition in asked.partitions if 0 <= partition.partition_index < count]
            if len(there) < len(asked.partitions):
                unknown = UNKNOWN_TOPIC_ID if by_id and topic is None else UNKNOWN_TOPIC_OR_PARTITION
                answer.topics.append(
                    OffsetCommitResponseTopic(
                        name=asked.name,
                        topic_id=asked.topic_id,
                        partitions=[
                            OffsetCommitResponsePartition(
                                partition_index=partition.partition_index, error_code=unknown
                            )
                            for partition in asked.partitions
                            if not 0 <= partition.partition_index < count
                        ],
                    )
                )
            if topic is not None and there:
                found.append((OffsetCommitRequestTopic(asked.name, asked.topic_id, there), topic))
        return found

    def _commit_error(
        self,
        message: OffsetCommitRequest,
        topics: list[tuple[OffsetCommitRequestTopic, TopicImage]],
        version: int,
    ) -> int:
        """NONE, or why nothing of the request is kept."""
        if len(message.group_id.encode()) > STRING_BYTES_MAX:
            return INVALID_REQUEST  # keys of records have shorter strings than requests
        group = self._groups.get(message.group_id)
        member_id, epoch = message.member_id, message.generation_id_or_member_epoch
        if group is None:
            if epoch < 0:
                return NONE  # from outside of a protocol: replay makes a simple group of it
            return GROUP_ID_NOT_FOUND if version >= COMMIT_TELLS_UNKNOWN_GROUPS else ILLEGAL_GENERATION
        if isinstance(group, ClassicGroup):
            return group.commit_error(member_id, message.group_instance_id, epoch)
        error = group.commit_error(member_id, message.group_instance_id, epoch, version)
        for asked, topic in topics:
            for partition in asked.partitions:
                error = error or group.commit_partition_error(
                    member_id, epoch, topic.topic_id, partition.partition_index
                )
        return error

    def _value(
        self,
        message: OffsetCommitRequest,
        topic: TopicImage,
        partition: OffsetCommitRequestPartition,
        metadata: str,
    ) -> OffsetCommitValue:
        now = self._runtime.time_ms
        retention = message.retention_time_ms
        return OffsetCommitValue(
            offset=partition.committed_offset,
            leader_epoch=partition.committed_leader_epoch,
            metadata=metadata,
            commit_timestamp=now,
            expire_timestamp=NEVER if retention == NEVER else min(now + retention, TIME_MAX),
            topic_id=topic.topic_id,
        )

    # -- OffsetFetch

    def fetch(self, request: GroupRequest) -> None:
        """Offsets that are in the log. Without transactions each of them is stable."""
        message: OffsetFetchRequest = request.message
        if request.version >= FETCH_OF_SEVERAL:
            groups = [self._fetched(group, request.version) for group in message.groups]
            request.reply(OffsetFetchResponse(groups=groups))
            return
        only = self._fetched(
            OffsetFetchRequestGroup(group_id=message.group_id, topics=message.topics), request.version
        )
        request.reply(OffsetFetchResponse(topics=only.topics, error_code=only.error_code))

    def _fetched(self, asked: OffsetFetchRequestGroup, version: int) -> OffsetFetchResponseGroup:
        answer = OffsetFetchResponseGroup(group_id=asked.group_id)
        group = self._groups.get(asked.group_id)
        if isinstance(group, ConsumerGroup):
            answer.error_code = group.fetch_error(asked.member_id, asked.member_epoch)
        if answer.error_code != NONE:
            return answer
        if asked.topics is None:
            self._fetch_all(answer, version)
        elif version >= FETCH_BY_ID:
            self._fetch_by_id(asked.topics, answer)
        else:
            answer.topics = [self._fetch_topic(asked.group_id, topic.name, topic) for topic in asked.topics]
        return answer

    def _fetch_all(self, answer: OffsetFetchResponseGroup, version: int) -> None:
        """All topics; those that are no more have no id, and are not shown where topics go by id."""
        for name, partitions in self._store.topics(answer.group_id).items():
            topic = self._runtime.image.topics_by_name.get(name)
            if topic is None and version >= FETCH_BY_ID:
                continue
            answer.topics.append(
                OffsetFetchResponseTopic(
                    name=name,
                    topic_id=ZERO_UUID if topic is None else topic.topic_id,
                    partitions=[_offset(partition, value) for partition, value in partitions.items()],
                )
            )

    def _fetch_by_id(self, topics: list[OffsetFetchRequestTopic], answer: OffsetFetchResponseGroup) -> None:
        unknown: list[OffsetFetchResponseTopic] = []
        for asked in topics:
            topic = self._runtime.image.topics_by_id.get(asked.topic_id)
            if topic is None:
                unknown.append(_nothing(asked, UNKNOWN_TOPIC_ID))
            else:
                answer.topics.append(self._fetch_topic(answer.group_id, topic.name, asked))
        answer.topics += unknown

    def _fetch_topic(
        self, group_id: str, name: str, asked: OffsetFetchRequestTopic
    ) -> OffsetFetchResponseTopic:
        told = OffsetFetchResponseTopic(name=name, topic_id=asked.topic_id)
        for partition in asked.partition_indexes:
            value = self._store.offset(group_id, name, partition)
            if value is not None and ZERO_UUID not in (asked.topic_id, value.topic_id):
                value = value if value.topic_id == asked.topic_id else None
            told.partitions.append(_offset(partition, value))
        return told

    # -- OffsetDelete

    def delete(self, request: GroupRequest) -> None:
        """Forget offsets of topics that the group does not read; answered once the log has forgotten."""
        message: OffsetDeleteRequest = request.message
        answer = OffsetDeleteResponse()
        group = self._groups.get(message.group_id)
        if not message.group_id:
            error = INVALID_GROUP_ID
        else:
            error = GROUP_ID_NOT_FOUND if group is None else offset_delete_error(group)
        if group is None or error != NONE:
            request.reply(OffsetDeleteResponse(error_code=error))
            return
        going: list[tuple[str, int]] = []
        for asked in message.topics:
            topic = self._runtime.image.topics_by_name.get(asked.name)
            count = 0 if topic is None else len(topic.partitions)
            told = OffsetDeleteResponseTopic(name=asked.name)
            answer.topics.append(told)
            for partition in asked.partitions:
                index = partition.partition_index
                code = NONE
                if not 0 <= index < count:
                    code = UNKNOWN_TOPIC_OR_PARTITION
                elif is_subscribed(group, asked.name):
                    code = GROUP_SUBSCRIBED_TO_TOPIC
                else:
                    going.append((asked.name, index))
                told.partitions.append(OffsetDeleteResponsePartition(partition_index=index, error_code=code))

        def written(error: int) -> None:
            request.reply(answer if error == NONE else OffsetDeleteResponse(error_code=append_error(error)))

        self._runtime.write(self._store.tombstones(message.group_id, going), written)


def _told_of(answer: OffsetCommitResponse, asked: OffsetCommitRequestTopic) -> OffsetCommitResponseTopic:
    """Where to tell of a topic; some of its partitions may have been refused already."""
    for told in answer.topics:
        if told.name == asked.name and told.topic_id == asked.topic_id:
            return told
    told = OffsetCommitResponseTopic(name=asked.name, topic_id=asked.topic_id)
    answer.topics.append(told)
    return told


def _offset(partition: int, value: OffsetCommitValue | None) -> OffsetFetchResponsePartition:
    if value is None:
        return OffsetFetchResponsePartition(
            partition_index=partition, committed_offset=NO_OFFSET, metadata=""
        )
    return OffsetFetchResponsePartition(
        partition_index=partition,
        committed_offset=value.offset,
        committed_leader_epoch=value.leader_epoch,
        metadata=value.metadata,
    )


def _nothing(asked: OffsetFetchRequestTopic, error: int) -> OffsetFetchResponseTopic:
    return OffsetFetchResponseTopic(
        name=asked.name,
        topic_id=asked.topic_id,
        partitions=[
            OffsetFetchResponsePartition(
                partition_index=partition, committed_offset=NO_OFFSET, metadata="", error_code=error
            )
            for partition in asked.partition_indexes
        ],
    )


def _java_length(text: str) -> int:
    """The length as Kafka measures it, in UTF-16 units."""
    return len(text.encode("utf-16-le")) // 2
