"""Reads the metadata log into an image, up to the committed offset: for whoever is not the controller.

The log is an ordinary partition, `__cluster_metadata-0`. The controller of broker b has row b of the state
table for its copy: its high watermark is the commit.

Files are read with pread and opened anew for each advance, so that nothing is mapped
and no descriptor outlives the file that the controller may replace.
"""

import os
from errno import EIO

from tailrace.core.metadata.batches import records_of
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.records.batch import HEADER_SIZE, check_stored, parse_header
from tailrace.shm.state_table import HIGH_WATERMARK, ROLE, ROLE_NONE, StateTable
from tailrace.workers.data_dir import METADATA_LOG
from tailrace.workers.process import ProcessContext

_CHUNK_BYTES = 256 * 1024


class MetadataReader:
    """Walks the segments of the metadata log, once, in order."""

    def __init__(self, metadata_dir: str) -> None:
        self._path = os.path.join(metadata_dir, METADATA_LOG)
        self._segment_base: int = 0
        self._position: int = 0

    def advance(self, image: MetadataImage, end_offset: int) -> None:
        """Replay every batch below `end_offset` that the image lacks; FileNotFoundError when a segment is
        missing, OSError when a batch is damaged.
        """
        while image.metadata_offset < end_offset:
            if not self._advance_in_segment(image, end_offset):
                if image.metadata_offset == self._segment_base:
                    raise FileNotFoundError(f"{self._segment_path()} ends before offset {end_offset}")
                self._segment_base, self._position = image.metadata_offset, 0

    def _advance_in_segment(self, image: MetadataImage, end_offset: int) -> bool:
        """Replay what the current segment holds. Whether that was anything."""
        descriptor = os.open(self._segment_path(), os.O_RDONLY | os.O_CLOEXEC)
        before = self._position
        try:
            while image.metadata_offset < end_offset:
                data = os.pread(descriptor, _CHUNK_BYTES, self._position)
                wanted = _size_of_batch(data)
                if wanted == 0:  # the end of the segment, or the zeros after it
                    break
                if wanted > len(data):
                    room = os.fstat(descriptor).st_size - self._position
                    data = os.pread(descriptor, min(wanted, room), self._position)
                self._position += _replay(image, data, end_offset)
        finally:
            os.close(descriptor)
        return self._position > before

    def _segment_path(self) -> str:
        return os.path.join(self._path, f"{self._segment_base:020d}.log")


def metadata_row(broker: int) -> int:
    """The row of the state table for the metadata log of a broker's controller; counted from 0."""
    return broker


class MetadataFollower:
    """An image of the metadata that moves when `poll` finds that more is committed."""

    def __init__(self, metadata_dir: str, row: int, state_table: StateTable) -> None:
        self.image = MetadataImage()
        self._reader = MetadataReader(metadata_dir)
        self._row = row
        self._table = state_table
        self._sequence = -1

    @classmethod
    def of(cls, context: ProcessContext) -> "MetadataFollower":
        """What a process of a broker follows."""
        return cls(context.log_dirs.metadata_dir, metadata_row(context.broker), context.state_table)

    def poll(self) -> bool:
        """Replay what was committed since the last call. Whether the image moved. Cheap when nothing was."""
        sequence = self._table.sequence(self._row)
        if sequence == self._sequence:
            return False
        row = self._table.read(self._row)
        self._sequence = sequence  # read before the row: a later store is seen by the next call
        if row[ROLE] == ROLE_NONE or row[HIGH_WATERMARK] <= self.image.metadata_offset:
            return False
        self._reader.advance(self.image, row[HIGH_WATERMARK])
        return True


def _size_of_batch(data: bytes) -> int:
    """Bytes of the batch that starts here, 0 if none does."""
    if len(data) < HEADER_SIZE:
        return 0
    size = parse_header(data).size
    return size if size >= HEADER_SIZE else 0


def _replay(image: MetadataImage, data: bytes, end_offset: int) -> int:
    """Replay the whole batches of a chunk, up to `end_offset`; returns the bytes they take. OSError if one
    is damaged (R): after a clean stop nobody else has looked at them.
    """
    view = memoryview(data)
    position = 0
    while image.metadata_offset < end_offset:
        size = _size_of_batch(data[position : position + HEADER_SIZE])
        if position and (size == 0 or position + size > len(data)):
            break
        header = parse_header(data, position)
        fault = check_stored(view[position : position + size], header)
        if fault or header.base_offset != image.metadata_offset:
            where = f"the metadata log at offset {image.metadata_offset}"
            raise OSError(EIO, f"{where}: {fault or f'a batch of offset {header.base_offset}'}")
        image.replay(records_of(view[position : position + size]), header.last_offset + 1)
        position += size
    return position
