"""What a log knows of its idempotent producers: epochs, sequences, the last five batches of each; Kafka's
`.snapshot` files.

    snapshot = version i16 (1), CRC-32C u32 of what follows, count i32, then per producer:
        producer id i64, epoch i16, last sequence i32, last offset i64, offset delta i32, timestamp i64,
        coordinator epoch i32, first offset of the open transaction i64 (-1: none)

Rule: the state at an offset equals a replay of all batches below it. A snapshot keeps the last of each
producer; those before it are read from the log (recovery.py).
"""

from collections import deque
from struct import Struct
from struct import error as StructError

from msgspec import Struct as Record

from tailrace.core.errors import (
    INVALID_PRODUCER_EPOCH,
    INVALID_RECORD,
    OUT_OF_ORDER_SEQUENCE_NUMBER,
    KafkaError,
)
from tailrace.core.records.batch import CONTROL, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, next_sequence
from tailrace.core.records.crc32c import crc32c

BATCHES_KEPT = 5
VERSION = 1
SEQUENCE_MAX = 0x7FFFFFFF
NEVER_CHECKED = -2

SNAPSHOT_HEAD = Struct(">hIi")
SNAPSHOT_ENTRY = Struct(">qhiqiqiq")
CRC_END = 6


class KeptBatch(Record, kw_only=True, frozen=True):
    """One of the last batches of a producer."""

    first_sequence: int
    last_sequence: int
    base_offset: int
    last_offset: int
    timestamp: int


class Producer(Record, kw_only=True):
    """One producer id."""

    epoch: int
    batches: deque[KeptBatch]
    last_timestamp: int
    coordinator_epoch: int = -1
    transaction_start: int = -1
    checked_offset: int = NEVER_CHECKED  # its last offset when expire last looked at it

    @property
    def last_offset(self) -> int:
        """-1 if no batch of it is known."""
        return self.batches[-1].last_offset if self.batches else -1

    @property
    def last_sequence(self) -> int:
        """-1 if no batch of it is known."""
        return self.batches[-1].last_sequence if self.batches else NO_SEQUENCE


class ProducerState:
    """All producers of one log; `check` before an append, `update` after it."""

    def __init__(self) -> None:
        self.producers: dict[int, Producer] = {}

    def check_batch(
        self, producer_id: int, epoch: int, sequence: int, delta: int, attributes: int
    ) -> KeptBatch | None:
        """As `check`, of a batch by the fields of its header."""
        if attributes & CONTROL:
            return None
        if sequence < 0:
            raise KafkaError(INVALID_RECORD, f"producer {producer_id} with sequence {sequence}")
        return self.check(producer_id, epoch, sequence, next_sequence(sequence, delta))

    def check(
        self, producer_id: int, epoch: int, first_sequence: int, last_sequence: int
    ) -> KeptBatch | None:
        """The batch this one repeats, or None if it may be appended; KafkaError if neither. Kafka's order of
        checks.
        """
        producer = self.producers.get(producer_id)
        if producer is None:  # any sequence is fine: retention may have removed what came before
            return None
        if epoch == producer.epoch:
            for batch in producer.batches:
                if batch.first_sequence == first_sequence and batch.last_sequence == last_sequence:
                    return batch
        if epoch < producer.epoch:
            raise KafkaError(
                INVALID_PRODUCER_EPOCH,
                f"epoch {epoch} of producer {producer_id} is older than {producer.epoch}",
            )
        if epoch != producer.epoch:
            if first_sequence != 0 and producer.epoch != NO_PRODUCER_EPOCH:
                raise KafkaError(
                    OUT_OF_ORDER_SEQUENCE_NUMBER, f"a new epoch starts with sequence 0, not {first_sequence}"
                )
            return None
        last = producer.last_sequence
        if first_sequence != last + 1 and not (first_sequence == 0 and last == SEQUENCE_MAX):
            raise KafkaError(
                OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"producer {producer_id}: sequence {first_sequence} does not follow {last}",
            )
        return None

    def update(
        self,
        producer_id: int,
        epoch: int,
        base_sequence: int,
        base_offset: int,
        last_offset: int,
        timestamp: int,
        attributes: int,
    ) -> None:
        """A batch is in the log, whether appended or replayed."""
        if producer_id == NO_PRODUCER_ID:
            return
        producer = self.producers.get(producer_id)
        if producer is None:
            producer = self.producers[producer_id] = Producer(
                epoch=epoch, batches=deque(maxlen=BATCHES_KEPT), last_timestamp=timestamp
            )
        if attributes & CONTROL:  # a marker ends the transaction and carries no sequence
            if epoch > producer.epoch:
                producer.epoch = epoch
                producer.batches.clear()
            producer.transaction_start, producer.last_timestamp = -1, timestamp
            return
        if epoch != producer.epoch:
            producer.epoch = epoch
            producer.batches.clear()
        producer.batches.append(
            KeptBatch(
                first_sequence=base_sequence,
                last_sequence=next_sequence(base_sequence, last_offset - base_offset),
                base_offset=base_offset,
                last_offset=last_offset,
                timestamp=timestamp,
            )
        )
        producer.last_timestamp = timestamp
        if attributes & 0x10 and producer.transaction_start < 0:
            producer.transaction_start = base_offset

    def first_unstable_offset(self) -> int | None:
        """Where the oldest open transaction began, None if none is open."""
        starts = [
            producer.transaction_start
            for producer in self.producers.values()
            if producer.transaction_start >= 0
        ]
        return min(starts, default=None)

    def expire(self, now_ms: int, expiration_ms: int) -> None:
        """Forgets producers of which the last record is so old, that are silent since the last call, and that
        have no transaction open.

        (R) Record times alone say nothing of the time of writing: a producer of old records would be
        forgotten between a batch and its repetition, and write it twice.
        """
        for producer_id, producer in list(self.producers.items()):
            if producer.transaction_start >= 0 or now_ms - producer.last_timestamp < expiration_ms:
                continue
            if producer.checked_offset == producer.last_offset:
                del self.producers[producer_id]
            producer.checked_offset = producer.last_offset

    def encode(self) -> bytes:
        """The contents of a snapshot file."""
        out = bytearray(SNAPSHOT_HEAD.pack(VERSION, 0, len(self.producers)))
        for producer_id, producer in self.producers.items():
            last = producer.batches[-1] if producer.batches else None
            out += SNAPSHOT_ENTRY.pack(
                producer_id,
                producer.epoch,
                last.last_sequence if last else NO_SEQUENCE,
                last.last_offset if last else -1,
                last.last_offset - last.base_offset if last else 0,
                producer.last_timestamp,
                producer.coordinator_epoch,
                producer.transaction_start,
            )
        out[2:CRC_END] = crc32c(memoryview(out)[CRC_END:]).to_bytes(4, "big")
        return bytes(out)


def decode_snapshot(data: bytes) -> ProducerState | None:
    """The state in a snapshot file, None if the file is damaged."""
    state = ProducerState()
    try:
        version, crc, count = SNAPSHOT_HEAD.unpack_from(data)
        if (
            version != VERSION
            or crc32c(data[CRC_END:]) != crc
            or len(data) != SNAPSHOT_HEAD.size + count * SNAPSHOT_ENTRY.size
        ):
            return None
    except StructError:
        return None
    for entry in SNAPSHOT_ENTRY.iter_unpack(data[SNAPSHOT_HEAD.size :]):
        (
            producer_id,
            epoch,
            last_sequence,
            last_offset,
            delta,
            timestamp,
            coordinator_epoch,
            transaction_start,
        ) = entry
        batches: deque[KeptBatch] = deque(maxlen=BATCHES_KEPT)
        if last_offset >= 0:
            batches.append(
                KeptBatch(
                    first_sequence=(last_sequence - delta) & SEQUENCE_MAX, last_sequence=last_sequence,
                    base_offset=last_offset - delta, last_offset=last_offset, timestamp=timestamp,
                )
            )  # fmt: skip
        state.producers[producer_id] = Producer(
            epoch=epoch,
            batches=batches,
            last_timestamp=timestamp,
            coordinator_epoch=coordinator_epoch,
            transaction_start=transaction_start,
        )
    return state
