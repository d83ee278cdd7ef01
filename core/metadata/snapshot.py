"""The image at one offset of the metadata log, as one file: what a log may forget once it is written.

    bytes  field
        8  magic, whose last byte is the version of this layout
           pieces, one after the other:
        4    length of the payload, big-endian
        4    CRC-32C of the payload
        n    the payload: one of the structs below, in msgpack

The first piece is the header and the last says how many came before it, so that a file which was not written
to its end is told from a whole one. A file that is damaged is refused in words, never read half.

Its name says where it ends (core/raft/snapshot.py).
"""

import struct
from collections.abc import Iterator

import msgspec

from tailrace.core.metadata.image import MetadataImage, TopicImage
from tailrace.core.metadata.records import BrokerRegistered
from tailrace.core.raft.messages import OffsetAndEpoch
from tailrace.core.records.batch import Buffer
from tailrace.core.records.crc32c import crc32c

MAGIC = b"TRMETA\0\x01"
PARTITIONS_A_PIECE = 1000
PIECE_BYTES_MAX = 1 << 30  # more is damage
_FRAME = struct.Struct(">II")

Configs = list[tuple[int, str, dict[str, str]]]


class SnapshotError(Exception):
    """A snapshot that cannot be read; the sentence says why."""


class _Header(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=0):
    end_offset: int
    epoch: int
    now_ms: int
    brokers: list[BrokerRegistered]
    features: dict[str, int]
    next_producer_id: int
    quorum: bytes = b""


class _Topics(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=1):
    topics: list[TopicImage]


class _Configs(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=2):
    configs: Configs


class _End(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=3):
    piece_count: int


_Piece = _Header | _Topics | _Configs | _End
_decode = msgspec.msgpack.Decoder(_Piece).decode
_encode = msgspec.msgpack.Encoder().encode


class Snapshot(msgspec.Struct, kw_only=True, frozen=True):
    """What a file holds. `quorum` is what the quorum keeps beside the image: its voters."""

    id: OffsetAndEpoch
    now_ms: int
    quorum: bytes
    image: MetadataImage


def encode_snapshot(image: MetadataImage, epoch: int, now_ms: int, quorum: bytes = b"") -> Iterator[bytes]:
    """The file, in pieces of a few milliseconds each. The image may go on while they are taken: what they
    hold is what it was at this call. `epoch` is that of its last record, `now_ms` the time of that.
    """
    header = _Header(
        end_offset=image.metadata_offset,
        epoch=epoch,
        now_ms=now_ms,
        brokers=list(image.brokers.values()),
        features=dict(image.features),
        next_producer_id=image.next_producer_id,
        quorum=quorum,
    )
    topics = [
        TopicImage(name=topic.name, topic_id=topic.topic_id, partitions=topic.partitions.copy())
        for topic in image.topics_by_name.values()
    ]
    configs: Configs = [(kind, name, dict(keys)) for (kind, name), keys in image.configs.items() if keys]
    return _pieces(header, topics, configs)


def _pieces(header: _Header, topics: list[TopicImage], configs: Configs) -> Iterator[bytes]:
    yield MAGIC
    yield _framed(header)
    piece_count = 1
    some: list[TopicImage] = []
    partition_count = 0
    for topic in topics:
        some.append(topic)
        partition_count += len(topic.partitions)
        if partition_count >= PARTITIONS_A_PIECE:
            yield _framed(_Topics(topics=some))
            piece_count += 1
            some, partition_count = [], 0
    if some:
        yield _framed(_Topics(topics=some))
        piece_count += 1
    for first in range(0, len(configs), PARTITIONS_A_PIECE):
        yield _framed(_Configs(configs=configs[first : first + PARTITIONS_A_PIECE]))
        piece_count += 1
    yield _framed(_End(piece_count=piece_count))


def _framed(piece: _Piece) -> bytes:
    payload = _encode(piece)
    return _FRAME.pack(len(payload), crc32c(payload)) + payload


def decode_snapshot(data: Buffer) -> Snapshot:
    """What the file says, from its bytes or its mapping, which nothing refers to afterwards. SnapshotError
    when it is damaged, not whole, or of a layout that this program does not know.
    """
    view = memoryview(data)
    try:
        return _decoded(_payloads(view))
    finally:
        view.release()


def quorum_of(data: Buffer) -> bytes:
    """What the quorum keeps in the file; the rest is not read. SnapshotError if it has no sound header."""
    view = memoryview(data)
    try:
        header = next(_payloads(view), None)
    finally:
        view.release()
    if not isinstance(header, _Header):
        raise SnapshotError("it does not begin with a header")
    return header.quorum


def _payloads(view: memoryview) -> Iterator[_Piece]:
    """Every piece; the file ends with the last."""
    if bytes(view[: len(MAGIC) - 1]) != MAGIC[:-1]:
        raise SnapshotError("this is no snapshot of Tailrace's metadata")
    if len(view) < len(MAGIC) or view[len(MAGIC) - 1] != MAGIC[-1]:
        raise SnapshotError(
            f"its layout is version {bytes(view[len(MAGIC) - 1 : len(MAGIC)]).hex() or 'cut off'}, "
            f"this program reads {MAGIC[-1]}"
        )
    position = len(MAGIC)
    while position < len(view):
        if len(view) - position < _FRAME.size:
            raise SnapshotError(f"it ends within the piece at byte {position}")
        size, checksum = _FRAME.unpack_from(view, position)
        end = position + _FRAME.size + size
        if size > PIECE_BYTES_MAX or end > len(view):
            raise SnapshotError(f"it ends within the piece at byte {position}")
        with view[position + _FRAME.size : end] as payload:
            if crc32c(payload) != checksum:
                raise SnapshotError(f"the piece at byte {position} does not have its checksum")
            try:
                piece = _decode(payload)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise SnapshotError(f"the piece at byte {position} cannot be read: {error}") from error
        position = end
        yield piece


def _decoded(pieces: Iterator[_Piece]) -> Snapshot:
    header = next(pieces, None)
    if not isinstance(header, _Header):
        raise SnapshotError("it does not begin with a header")
    image = MetadataImage()
    image.brokers = {broker.broker_id: broker for broker in header.brokers}
    image.features = dict(header.features)
    image.next_producer_id = header.next_producer_id
    image.metadata_offset = header.end_offset
    piece_count = 1
    for piece in pieces:
        match piece:
            case _Topics():
                for topic in piece.topics:
                    image.enter_topic(topic)
            case _Configs():
                for kind, name, keys in piece.configs:
                    image.configs[kind, name] = keys
            case _Header():
                raise SnapshotError("it has a second header")
            case _End():
                if next(pieces, None) is not None:
                    raise SnapshotError("it goes on after its end")
                if piece.piece_count != piece_count:
                    raise SnapshotError(f"it has {piece_count} of its {piece.piece_count} pieces")
                snapshot_id = OffsetAndEpoch(header.end_offset, header.epoch)
                image.version = 1
                return Snapshot(id=snapshot_id, now_ms=header.now_ms, quorum=header.quorum, image=image)
        piece_count += 1
    raise SnapshotError(f"it ends after {piece_count} pieces, without its last")


class SnapshotSchedule:
    """When to take one, as Kafka: after so many bytes of records (metadata.log.max.record.bytes.between.
    snapshots), or with the first records after so long (metadata.log.max.snapshot.interval.ms; 0: never).
    """

    def __init__(self, bytes_max: int, interval_ms: int, now_ms: int) -> None:
        self._bytes_max = bytes_max
        self._interval_ms = interval_ms
        self._bytes = 0
        self._since_ms = now_ms

    def is_due(self, byte_count: int, now_ms: int) -> bool:
        """Whether to take one now that so many bytes more are committed. Stays true until `taken`."""
        self._bytes += byte_count
        late = self._interval_ms > 0 and now_ms - self._since_ms >= self._interval_ms
        return self._bytes >= self._bytes_max or (late and self._bytes > 0)

    def taken(self, now_ms: int) -> None:
        """One was taken, or loaded."""
        self._bytes = 0
        self._since_ms = now_ms
