"""A host of a group coordinator for tests: clocks that the test moves, writes that it holds back or fails,
and the log of what was written.

    runtime = FakeRuntime(topics={"orders": 3})
    runtime.shard = GroupCoordinator(runtime)       # or anything with replay(key, value)
    answer = runtime.ask(shard.handle, 8, 9, OffsetCommitRequest(...))
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tailrace.core.errors import NONE
from tailrace.core.groups.runtime import GroupConfig, GroupRequest, Record
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import PartitionRecord, TopicRecord, TopicRemoved
from tailrace.core.timers import Timers

START_MS = 1_700_000_000_000


class Replayer(Protocol):
    """What gets the records that were written."""

    def replay(self, key: bytes, value: bytes | None) -> None:
        """One record."""
        ...


class FakeRuntime:
    """Replays and answers each write at once, unless it is told otherwise."""

    def __init__(self, topics: Mapping[str, int] | None = None, config: GroupConfig | None = None) -> None:
        self.config = GroupConfig() if config is None else config
        self.image = MetadataImage()
        self.timers = Timers()
        self.now_ms = 0
        self.time_ms = START_MS
        self.shard: Replayer | None = None
        self.log: list[Record] = []
        self.batches: list[list[Record]] = []
        self.holds = False
        self.error = NONE
        self._held: deque[tuple[list[Record], Callable[[int], None]]] = deque()
        self._working = False
        self._uuids = 0
        for name, partitions in (topics or {}).items():
            self.create_topic(name, partitions)

    # -- the host's side

    def new_uuid(self) -> str:
        """Different each time, the same in each run."""
        self._uuids += 1
        return f"00000000-0000-4000-8000-{self._uuids:012x}"

    def write(self, records: Sequence[Record], then: Callable[[int], None]) -> None:
        """Append now, or when the test says so."""
        self._held.append((list(records), then))
        if not self.holds:
            self.release()

    # -- the test's side

    def release(self, count: int | None = None) -> None:
        """Do the writes that were held back, or as many of them; with `error` set they fail."""
        if self._working:
            return
        self._working = True
        try:
            while self._held and count != 0:
                count = None if count is None else count - 1
                records, then = self._held.popleft()
                error = self.error if records else NONE
                if error == NONE and records:
                    self.batches.append(records)
                    self.log += records
                    for key, value in records:
                        assert self.shard is not None
                        self.shard.replay(key, value)
                then(error)
        finally:
            self._working = False

    @property
    def is_holding(self) -> bool:
        """Whether a write waits for `release`."""
        return bool(self._held)

    def advance(self, ms: int) -> None:
        """Let time pass; what becomes due on the way is run when it is due."""
        end = self.now_ms + ms
        while (deadline := self.timers.next_deadline_ms()) is not None and deadline <= end:
            self._move_to(max(deadline, self.now_ms))
            self.timers.run_due(self.now_ms)
        self._move_to(end)

    def ask(
        self,
        handle: Callable[[GroupRequest], None],
        api_key: int,
        version: int,
        message: Any,
        client_id: str = "client",
    ) -> list[Any]:
        """Send a request; the list takes the answer, now or later."""
        answers: list[Any] = []

        def reply(answer: Any) -> None:
            assert not answers, "a request is answered once"
            answers.append(answer)

        handle(
            GroupRequest(
                api_key=api_key,
                version=version,
                client_id=client_id,
                client_host="/127.0.0.1",
                message=message,
                reply=reply,
            )
        )
        return answers

    def create_topic(self, name: str, partitions: int) -> bytes:
        """Its id; the shard is not told."""
        topic_id = (0x7000 + self.image.metadata_offset).to_bytes(16, "big")
        records: list[Any] = [TopicRecord(name=name, topic_id=topic_id)]
        records += [
            PartitionRecord(
                topic_id=topic_id,
                partition=partition,
                replicas=(1,),
                isr=(1,),
                leader=1,
                leader_epoch=0,
                partition_epoch=0,
            )
            for partition in range(partitions)
        ]
        self.image.replay(records, self.image.metadata_offset + len(records))
        return topic_id

    def delete_topic(self, name: str) -> None:
        """The shard is not told."""
        removed = TopicRemoved(topic_id=self.image.topics_by_name[name].topic_id)
        self.image.replay([removed], self.image.metadata_offset + 1)

    def _move_to(self, now_ms: int) -> None:
        self.time_ms += now_ms - self.now_ms
        self.now_ms = now_ms
