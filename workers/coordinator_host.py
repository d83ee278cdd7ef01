"""Hosts a group coordinator in the worker that leads its partition of __consumer_offsets.

It loads the log in slices, so that the worker's other partitions go on; until then requests are answered
COORDINATOR_LOAD_IN_PROGRESS. Afterwards each write of the coordinator is appended, replayed and answered, in
this order (core/groups/runtime.py). Under flush.policy=group and each answers wait until all that is in the
log by then is on the disk.
"""

import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from tailrace.core.errors import (
    COORDINATOR_LOAD_IN_PROGRESS,
    COORDINATOR_NOT_AVAILABLE,
    KAFKA_STORAGE_ERROR,
    MESSAGE_TOO_LARGE,
    NONE,
    NOT_COORDINATOR,
    RECORD_LIST_TOO_LARGE,
    UNKNOWN_SERVER_ERROR,
    KafkaError,
    ProtocolError,
)
from tailrace.core.groups.coordinator import GroupCoordinator
from tailrace.core.groups.runtime import GroupRequest, Record
from tailrace.core.log.directory import is_full
from tailrace.core.log.reader import LogReader
from tailrace.core.log.scan import scan
from tailrace.core.protocol.apis import APIS
from tailrace.core.protocol.compile import decoder, encoder
from tailrace.core.protocol.frames import parse_request_header
from tailrace.core.records.batch import CONTROL, parse_header
from tailrace.core.records.record import NewRecord, build_batch, iterate_batch
from tailrace.core.timers import Timers
from tailrace.workers.group_config import group_config
from tailrace.workers.leader_asks import Ask, Asks
from tailrace.workers.log_dirs import is_broken
from tailrace.workers.metadata_follower import MetadataFollower
from tailrace.workers.process import ProcessContext
from tailrace.workers.replica import Replica
from tailrace.workers.say import say

LOAD_SLICE_S = 0.01
LOAD_BYTES = 1024 * 1024
LOAD_RECORDS = 100  # of a batch, then others have their turn
LOAD_PLAIN_BYTES_MAX = 64 * 1024 * 1024  # of a batch, decompressed; a coordinator's own are not compressed

# As Kafka: what a client hears of a write that its log has refused.
_ANSWERS = {
    KAFKA_STORAGE_ERROR: NOT_COORDINATOR,  # a full disk: it asks for the coordinator, and tries again
    MESSAGE_TOO_LARGE: UNKNOWN_SERVER_ERROR,
    RECORD_LIST_TOO_LARGE: UNKNOWN_SERVER_ERROR,
}

Then = Callable[[int], None]


class CoordinatorHost:
    """One partition's coordinator; it is the `Runtime` of core/groups."""

    def __init__(
        self,
        context: ProcessContext,
        replica: Replica,
        asks: Asks,
        appended: Callable[[Replica], None],
        failed: Callable[[Replica, Exception], None],
    ) -> None:
        self._replica = replica
        self._asks = asks
        self._appended = appended
        self._failed = failed
        self._follower = MetadataFollower.of(context)
        self._writes: deque[tuple[Sequence[Record], Then]] = deque()
        self._waiting: set[Ask] = set()
        self._held: deque[tuple[int, Ask, bytes]] = deque()  # answers, until what they rest on is committed
        self._closed = False
        self._working = False
        self.config = group_config(context.config)
        self.image = self._follower.image
        self.timers = Timers()
        self.now_ms = self.time_ms = 0
        self._set_clocks()
        self._follower.poll()
        self._coordinator = GroupCoordinator(self)
        self._loading: Iterator[None] | None = self._load()

    # -- what the worker calls

    def take(self, question: bytes, ask: Ask) -> None:
        """One request of a gateway (workers/gateway/coordinators.py packs it)."""
        if self._loading is not None:
            self._asks.answer(ask, COORDINATOR_LOAD_IN_PROGRESS, b"")
            return
        self._set_clocks()
        try:
            request = self._request(question, ask)
        except ProtocolError:
            self._asks.answer(ask, UNKNOWN_SERVER_ERROR, b"")
            return
        self._waiting.add(ask)
        self._follow()  # its client may know of what was committed just now
        try:
            self._coordinator.handle(request)
        except Exception:  # as Kafka: one request fails, and says so; the other groups go on
            say(traceback.format_exc())
            if ask in self._waiting:
                self._waiting.discard(ask)
                self._asks.answer(ask, UNKNOWN_SERVER_ERROR, b"")
        self._work()

    def turn(self) -> None:
        """Load on, or do what time and metadata bring."""
        self._set_clocks()
        if self._loading is not None:
            self._load_on()
            return
        while self._held and self._replica.is_committed(self._held[0][0]):
            _, ask, body = self._held.popleft()
            self._asks.answer(ask, NONE, body)
        self._follow()
        self.timers.run_due(self.now_ms)
        self._work()

    def _follow(self) -> None:
        if self._follower.poll():
            self._coordinator.on_metadata()

    def timeout_s(self) -> float:
        """How long the worker may sleep."""
        if self._loading is not None:
            return 0.0
        deadline = self.timers.next_deadline_ms()
        return 3600.0 if deadline is None else max(0.0, (deadline - time.monotonic_ns() // 1_000_000) / 1000)

    def close(self) -> None:
        """The partition is led here no more: whoever waits finds its successor."""
        self._closed = True
        self._writes.clear()
        for ask in [*self._waiting, *(ask for _, ask, _ in self._held)]:
            self._asks.answer(ask, NOT_COORDINATOR, b"")
        self._waiting.clear()
        self._held.clear()

    # -- what the coordinator calls

    def write(self, records: Sequence[Record], then: Then) -> None:
        """Append in the order of the calls; see core/groups/runtime.py."""
        self._writes.append((records, then))

    def new_uuid(self) -> str:
        """Random; see core/groups/runtime.py."""
        return str(uuid.uuid4())

    def _work(self) -> None:
        """Append what was written; what is then answered may write more."""
        if self._working:
            return
        self._working = True
        try:
            while self._writes and not self._closed:
                records, then = self._writes.popleft()
                then(self._append(records) if records else NONE)
        finally:
            self._working = False

    def _append(self, records: Sequence[Record]) -> int:
        """The error code; NONE: appended and replayed."""
        new = [NewRecord(key=key, value=value, timestamp=self.time_ms) for key, value in records]
        log = self._replica.log
        try:
            batch = build_batch(new)
            if self._replica.leading is not None:
                self._replica.leading.in_sync.check_enough()
            log.append_as_leader(batch, self._replica.led_epoch, self.time_ms, from_client=False)
        except KafkaError as error:
            if is_broken(error):
                self._failed(self._replica, error)
                return NOT_COORDINATOR
            return _ANSWERS.get(error.code, COORDINATOR_NOT_AVAILABLE)
        except OSError as error:
            self._failed(self._replica, error)
            return NOT_COORDINATOR
        try:
            self._appended(self._replica)
        except (OSError, KafkaError) as error:
            if not is_full(error):  # else it is in the log, not synced yet, and answers wait until it is
                self._failed(self._replica, error)
                return NOT_COORDINATOR
        for key, value in records:
            self._coordinator.replay(key, value)
        return NONE

    # -- requests

    def _request(self, question: bytes, ask: Ask) -> GroupRequest:
        host_end = 1 + question[0]
        key, version, _, client_id, body = parse_request_header(question, host_end, len(question))
        api = APIS[key]
        view = memoryview(question)
        message = decoder(api.request, version)(question, body, len(question), view)

        def reply(response: object) -> None:
            if ask in self._waiting:  # else it was told that this is not its coordinator any more
                self._waiting.discard(ask)
                pieces = encoder(api.response, version)(response)  # type: ignore[arg-type]
                self._answer(ask, b"".join(pieces))

        return GroupRequest(
            key, version, client_id or "", question[1:host_end].decode("ascii", "replace"), message, reply
        )

    def _answer(self, ask: Ask, body: bytes) -> None:
        """(R) Nothing is told that a loss of power could take: also what was only read may rest on the end of
        the log.
        """
        end_offset = self._replica.log.log_end_offset
        if self._held or not self._replica.is_committed(end_offset):
            self._held.append((end_offset, ask, body))
        else:
            self._asks.answer(ask, NONE, body)

    def _set_clocks(self) -> None:
        self.now_ms = time.monotonic_ns() // 1_000_000
        self.time_ms = time.time_ns() // 1_000_000

    # -- load

    def _load_on(self) -> None:
        assert self._loading is not None
        end = time.monotonic() + LOAD_SLICE_S
        while time.monotonic() < end:
            try:
                next(self._loading)
            except StopIteration:
                self._loading = None
                self._coordinator.on_loaded()
                self._work()
                return
            except OSError as error:
                self._failed(self._replica, error)
                return

    def _load(self) -> Iterator[None]:
        """Replay the log from its start, some batches at a step."""
        log = self._replica.log
        reader = LogReader(log.directory)
        offset, hint = log.log_start_offset, None
        try:
            while offset < log.log_end_offset:
                found = reader.locate_in(log, offset, LOAD_BYTES, hint)
                if found is None:
                    raise OSError(f"offset {offset} of {log.name} is not found in its files")
                hint = found.next_hint
                end = found.position + found.length
                for position, header in scan(found.file, found.position, end, check=False):
                    if not header.attributes & CONTROL:
                        yield from self._replay_batch(found.file.read(position, header.size))
                    offset = header.last_offset + 1
                    yield
        finally:
            reader.close()

    def _replay_batch(self, batch: bytes) -> Iterator[None]:
        """(R) An administrator's client may write here, too. What is no record of groups is passed over: it
        would end each process that loads this log.
        """
        try:
            for number, record in enumerate(iterate_batch(batch, limit=LOAD_PLAIN_BYTES_MAX), 1):
                self._replay(record.key, record.value)
                if number % LOAD_RECORDS == 0:
                    yield
        except (KafkaError, ProtocolError) as error:
            where = f"{self._replica.log.name}, offset {parse_header(batch).base_offset}"
            say(f"tailrace: {where}: what is no record of groups is passed over: {error}\n")

    def _replay(self, key: bytes | None, value: bytes | None) -> None:
        if key is not None:
            self._coordinator.replay(key, value)
