"""Requests about committed offsets, in one line each, and their answers as plain values."""

from typing import Any

from tailrace.core.errors import NONE
from tailrace.core.groups.coordinator import GroupCoordinator
from tailrace.core.protocol.messages.delete_groups import DeleteGroupsRequest
from tailrace.core.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from tailrace.core.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from tailrace.core.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from tailrace.core.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
)
from tailrace.core.protocol.messages.sync_group import SyncGroupRequest
from tailrace.core.timers import Timers
from tests.support.group_runtime import FakeRuntime

Offsets = dict[tuple[str, int], int]
Partitions = dict[str, list[int]]


class OffsetClient:
    """Speaks to one shard."""

    def __init__(self, runtime: FakeRuntime) -> None:
        self.runtime = runtime
        self.shard = GroupCoordinator(runtime)
        runtime.shard = self.shard

    def restart(self) -> None:
        """Another shard of the same log takes over."""
        self.runtime.timers = Timers()
        self.shard = GroupCoordinator(self.runtime)
        self.runtime.shard = self.shard
        for key, value in self.runtime.log:
            self.shard.replay(key, value)
        self.shard.on_loaded()

    def commit(self, group_id: str, offsets: Offsets, version: int = 9, **fields: Any) -> list[Any]:
        """OffsetCommit; the list takes the answer."""
        metadata = fields.pop("metadata", None)
        epoch = fields.pop("leader_epoch", -1)
        topics: dict[str, list[OffsetCommitRequestPartition]] = {}
        for (topic, partition), offset in offsets.items():
            topics.setdefault(topic, []).append(
                OffsetCommitRequestPartition(partition, offset, epoch, metadata)
            )
        asked = [
            OffsetCommitRequestTopic(topic_id=self.topic_id(name), partitions=partitions)
            if version >= 10
            else OffsetCommitRequestTopic(name=name, partitions=partitions)
            for name, partitions in topics.items()
        ]
        message = OffsetCommitRequest(group_id=group_id, topics=asked, **fields)
        return self.runtime.ask(self.shard.handle, 8, version, message)

    def commit_errors(self, group_id: str, offsets: Offsets, version: int = 9, **fields: Any) -> list[int]:
        """The codes of an OffsetCommit, in the order of the answer."""
        (answer,) = self.commit(group_id, offsets, version, **fields)
        return [partition.error_code for topic in answer.topics for partition in topic.partitions]

    def fetch_group(
        self, group_id: str, topics: Partitions | None = None, version: int = 9, **fields: Any
    ) -> Any:
        """What OffsetFetch tells of one group: topics is {name: [partition]}, None all."""
        asked = None
        if topics is not None:
            asked = [self._fetched(name, partitions, version) for name, partitions in topics.items()]
        if version >= 8:
            group = OffsetFetchRequestGroup(group_id=group_id, topics=asked, **fields)
            (answer,) = self.runtime.ask(self.shard.handle, 9, version, OffsetFetchRequest(groups=[group]))
            return answer.groups[0]
        message = OffsetFetchRequest(group_id=group_id, topics=asked)
        return self.runtime.ask(self.shard.handle, 9, version, message)[0]

    def fetch(self, group_id: str, topics: Partitions | None = None, version: int = 9) -> Offsets:
        """The committed offsets."""
        answer = self.fetch_group(group_id, topics, version)
        assert answer.error_code == NONE
        return {
            (topic.name, partition.partition_index): partition.committed_offset
            for topic in answer.topics
            for partition in topic.partitions
        }

    def delete_offsets(self, group_id: str, partitions: list[tuple[str, int]]) -> list[Any]:
        """OffsetDelete; the list takes the answer."""
        topics: dict[str, list[OffsetDeleteRequestPartition]] = {}
        for topic, partition in partitions:
            topics.setdefault(topic, []).append(OffsetDeleteRequestPartition(partition))
        asked = [OffsetDeleteRequestTopic(name, parts) for name, parts in topics.items()]
        return self.runtime.ask(self.shard.handle, 47, 0, OffsetDeleteRequest(group_id, asked))

    def delete_groups(self, *group_ids: str) -> list[Any]:
        """DeleteGroups; the list takes the answer."""
        return self.runtime.ask(self.shard.handle, 42, 2, DeleteGroupsRequest(list(group_ids)))

    def join(self, group_id: str, subscription: bytes = b"", protocol_type: str = "consumer") -> str:
        """A member joins alone and becomes stable; its id."""
        message = JoinGroupRequest(
            group_id=group_id,
            session_timeout_ms=10_000,
            rebalance_timeout_ms=10_000,
            protocol_type=protocol_type,
            protocols=[JoinGroupRequestProtocol("range", subscription)],
        )
        joins = self.runtime.ask(self.shard.handle, 11, 3, message)
        self.runtime.advance(0)
        (joined,) = joins
        assert joined.error_code == NONE
        sync = SyncGroupRequest(group_id, joined.generation_id, joined.member_id)
        (synced,) = self.runtime.ask(self.shard.handle, 14, 3, sync)
        assert synced.error_code == NONE
        return str(joined.member_id)

    def topic_id(self, name: str) -> bytes:
        """As the image has it."""
        return self.runtime.image.topics_by_name[name].topic_id

    def _fetched(self, name: str, partitions: list[int], version: int) -> OffsetFetchRequestTopic:
        if version >= 10:
            return OffsetFetchRequestTopic(topic_id=self.topic_id(name), partition_indexes=partitions)
        return OffsetFetchRequestTopic(name=name, partition_indexes=partitions)
