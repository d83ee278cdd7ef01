"""The offsets that the groups of one shard have committed.

    group -> topic -> partition -> the value of its newest record

They change in `replay` alone, so a commit whose write is under way is not seen. Its key is remembered all the
same: a tombstone decided meanwhile is appended behind that commit. One that was asked for must take it along.

(R) One that nobody asked for, of an offset that is old or of a deleted topic, must not: it would forget the
newer offset, too.

Offsets end by deletion, by age and with their topic. A topic that was deleted is told from one of the same
name by the id that each commit carries; offsets written before there were ids go by the name.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from tailrace.core.groups.records import OffsetCommitKey, OffsetCommitValue, encode_key, encode_value
from tailrace.core.groups.runtime import Record, Runtime
from tailrace.core.ids import ZERO_UUID

Commit = tuple[str, int, OffsetCommitValue]
"""Topic, partition and what is kept of it."""

Partitions = dict[int, OffsetCommitValue]
NEVER = -1


class OffsetStore:
    """Committed offsets; see the module."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._groups: dict[str, dict[str, Partitions]] = {}
        self._under_way: dict[str, Counter[tuple[str, int]]] = {}
        self._topics: Counter[tuple[str, bytes]] = Counter()  # (name, id) -> how many offsets

    # -- reading

    def offset(self, group_id: str, topic: str, partition: int) -> OffsetCommitValue | None:
        """The committed offset, if there is one."""
        return self._groups.get(group_id, {}).get(topic, {}).get(partition)

    def topics(self, group_id: str) -> dict[str, Partitions]:
        """All offsets of a group, to be read only."""
        return self._groups.get(group_id, {})

    # -- records

    def replay(self, key: OffsetCommitKey, value: OffsetCommitValue | None) -> None:
        """One record of the log."""
        if value is None:
            self._remove(key.group, key.topic, key.partition)
            return
        topics = self._groups.get(key.group)
        if topics is None:
            topics = self._groups[key.group] = {}
        partitions = topics.get(key.topic)
        if partitions is None:
            partitions = topics[key.topic] = {}
        before = partitions.get(key.partition)
        partitions[key.partition] = value
        if before is None or before.topic_id != value.topic_id:
            self._topics[key.topic, value.topic_id] += 1
            if before is not None:
                self._forget_topic(key.topic, before.topic_id)

    def commit(self, group_id: str, commits: Sequence[Commit], then: Callable[[int], None]) -> None:
        """Write the offsets as one batch; `then` takes the error code."""
        records = [
            (_key(group_id, topic, partition), encode_value(value)) for topic, partition, value in commits
        ]
        keys = [(topic, partition) for topic, partition, _ in commits]
        under_way: Counter[tuple[str, int]] = self._under_way.setdefault(group_id, Counter())
        under_way.update(keys)

        def written(error: int) -> None:
            under_way.subtract(keys)
            for key in keys:
                if under_way[key] <= 0:
                    del under_way[key]
            if not under_way and self._under_way.get(group_id) is under_way:
                del self._under_way[group_id]
            then(error)

        self._runtime.write(records, written)

    def tombstones(self, group_id: str, partitions: Sequence[tuple[str, int]] | None = None) -> list[Record]:
        """What forgets these partitions of a group, or all of them, where there is something to forget."""
        kept = dict.fromkeys(self._keys(group_id))
        asked = kept if partitions is None else dict.fromkeys(partitions)
        return [(_key(group_id, *partition), None) for partition in asked if partition in kept]

    def expired(
        self, group_id: str, is_subscribed: Callable[[str], bool], empty_since_ms: int | None
    ) -> list[tuple[str, int]]:
        """The partitions whose offsets are too old: by the clock of the commit, or since the group is empty.

        An offset with an expiry of its own, as version 2 to 4 of OffsetCommit could give, obeys that alone.
        What the group is subscribed to stays.
        """
        now = self._runtime.time_ms
        retention = self._runtime.config.offsets_retention_ms
        under_way = self._under_way.get(group_id, Counter())
        found: list[tuple[str, int]] = []
        for topic, partitions in self.topics(group_id).items():
            if is_subscribed(topic):
                continue
            for partition, value in partitions.items():
                since = value.commit_timestamp if empty_since_ms is None else empty_since_ms
                deadline = since + retention if value.expire_timestamp == NEVER else value.expire_timestamp
                if now >= deadline and (topic, partition) not in under_way:  # (R)
                    found.append((topic, partition))
        return found

    def has_more_than(self, group_id: str, partitions: Sequence[tuple[str, int]]) -> bool:
        """Whether the group has offsets, or will have, of other partitions than these."""
        return not set(partitions).issuperset(self._keys(group_id))

    def of_deleted_topics(self) -> list[list[Record]]:
        """What forgets the offsets of topics that are no more, group by group."""
        image = self._runtime.image
        gone = {
            (topic, topic_id)
            for topic, topic_id in self._topics
            if (
                topic_id not in image.topics_by_id
                if topic_id != ZERO_UUID
                else topic not in image.topics_by_name
            )
        }
        names = {topic for topic, _ in gone}
        found: list[list[Record]] = [
            [
                (_key(group_id, topic, partition), None)
                for topic in topics.keys() & names
                for partition, value in topics[topic].items()
                if (topic, value.topic_id) in gone
                and (topic, partition) not in self._under_way.get(group_id, ())  # (R)
            ]
            for group_id, topics in self._groups.items()
            if gone
        ]
        return [records for records in found if records]

    # -- inside

    def _keys(self, group_id: str) -> Iterator[tuple[str, int]]:
        """What is kept, then what is being committed; one may come twice."""
        for topic, partitions in self.topics(group_id).items():
            for partition in partitions:
                yield topic, partition
        yield from self._under_way.get(group_id, ())

    def _remove(self, group_id: str, topic: str, partition: int) -> None:
        topics = self._groups.get(group_id, {})
        partitions = topics.get(topic, {})
        value = partitions.pop(partition, None)
        if value is None:
            return
        self._forget_topic(topic, value.topic_id)
        if not partitions:
            del topics[topic]
        if not topics:
            del self._groups[group_id]

    def _forget_topic(self, topic: str, topic_id: bytes) -> None:
        self._topics[topic, topic_id] -= 1
        if not self._topics[topic, topic_id]:
            del self._topics[topic, topic_id]


def _key(group_id: str, topic: str, partition: int) -> bytes:
    return encode_key(OffsetCommitKey(group=group_id, topic=topic, partition=partition))
