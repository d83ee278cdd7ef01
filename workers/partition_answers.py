"""What a partition's worker is asked besides appends and looks by time, and what it answers at once.

Questions and answers are msgpack arrays; both ends are of the same build.
"""

import time
from collections.abc import Callable

from msgspec import Struct, msgpack

from tailrace.core.errors import FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, KafkaError
from tailrace.shm.state_table import HIGH_WATERMARK
from tailrace.workers.descriptors import DELETE_RECORDS, DESCRIBE_PRODUCERS, EPOCH_END
from tailrace.workers.replica import Replica

UP_TO_HIGH_WATERMARK = -1


class EpochQuestion(Struct, array_like=True, frozen=True):
    """Where does an epoch end? Asked by one who takes `current_leader_epoch` for the current, -1 for none."""

    current_leader_epoch: int
    leader_epoch: int


class ActiveProducer(Struct, array_like=True, frozen=True):
    """A producer that the log remembers."""

    producer_id: int
    epoch: int
    last_sequence: int
    last_timestamp: int
    coordinator_epoch: int
    transaction_start: int


encode = msgpack.Encoder().encode
decode_offset = msgpack.Decoder(int).decode
decode_epoch_question = msgpack.Decoder(EpochQuestion).decode
decode_epoch_end = msgpack.Decoder(tuple[int, int]).decode
decode_producers = msgpack.Decoder(list[ActiveProducer]).decode


def delete_records(replica: Replica, question: bytes) -> bytes:
    """The first offset to keep in, where the log starts out, once that is on disk and shown."""
    log, committed = replica.log, replica.row.values[HIGH_WATERMARK]
    offset = decode_offset(question)
    log.high_watermark = committed
    try:
        log.delete_records_before(
            committed if offset == UP_TO_HIGH_WATERMARK else offset, time.time_ns() // 1_000_000
        )
    finally:
        replica.publish()
    if replica.leading is not None:
        replica.leading.on_start_moved()
    return encode(log.log_start_offset)


def epoch_end(replica: Replica, question: bytes) -> bytes:
    """An EpochQuestion in, (epoch, end offset) out, both -1 if that is not known."""
    asked, current = decode_epoch_question(question), replica.led_epoch
    if asked.current_leader_epoch not in (-1, current):
        raise KafkaError(
            FENCED_LEADER_EPOCH if asked.current_leader_epoch < current else UNKNOWN_LEADER_EPOCH
        )
    return encode(replica.log.epoch_end_offset(asked.leader_epoch, current))


def describe_producers(replica: Replica, _: bytes) -> bytes:
    """A list of ActiveProducer."""
    return encode(
        [
            ActiveProducer(
                producer_id,
                producer.epoch,
                producer.last_sequence,
                producer.last_timestamp,
                producer.coordinator_epoch,
                producer.transaction_start,
            )
            for producer_id, producer in replica.log.producers.producers.items()
        ]
    )


Answerer = Callable[[Replica, bytes], bytes]
"""Answers a question about a replica at once; a KafkaError is its error code."""

ANSWERERS: dict[int, Answerer] = {
    DELETE_RECORDS: delete_records,
    DESCRIBE_PRODUCERS: describe_producers,
    EPOCH_END: epoch_end,
}
"""By what is asked (workers/descriptors.py)."""
