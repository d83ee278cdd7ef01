"""Reads the metadata into an image, up to the committed offset: for whoever is not the controller.

The log is an ordinary partition, `__cluster_metadata-0`, which begins where the newest snapshot beside it
ends. The controller of broker b has row b of the state table for its copy: its high watermark is the commit.

Files are read with pread and opened anew for each advance, so that nothing is mapped
and no descriptor outlives the file that the controller may replace. What the log no longer has is in a
snapshot, which is mapped while it is read: all of it takes the place of what the image was.
"""

import mmap
import os
from errno import EIO

from tailrace.core.log.directory import RealReadFile
from tailrace.core.log.scan import scan
from tailrace.core.log.segment import LOG_SUFFIX, file_name, offset_of
from tailrace.core.metadata.batches import records_of
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.snapshot import SnapshotError, decode_snapshot
from tailrace.core.raft.messages import OffsetAndEpoch
from tailrace.core.raft.snapshot import parse_snapshot_name, snapshot_name
from tailrace.core.records.batch import HEADER_SIZE, check_stored, parse_header
from tailrace.shm.state_table import HIGH_WATERMARK, ROLE, ROLE_NONE, StateTable
from tailrace.workers.data_dir import METADATA_LOG
from tailrace.workers.process import ProcessContext

_CHUNK_BYTES = 256 * 1024
_NO_SEGMENT = -1


class MetadataReader:
    """Walks the segments of the metadata log, once, in order; over what they lack by the newest snapshot."""

    def __init__(self, metadata_dir: str) -> None:
        self._path = os.path.join(metadata_dir, METADATA_LOG)
        self._segment_base: int = _NO_SEGMENT
        self._position: int = 0

    def advance(self, image: MetadataImage, end_offset: int) -> int:
        """Replay every batch below `end_offset` that the image lacks, or more, as a snapshot has it; returns
        their size. FileNotFoundError when something is missing, OSError when it is damaged.
        """
        replayed = 0
        if self._segment_base == _NO_SEGMENT and image.metadata_offset < end_offset:
            self._load_snapshot(image)
        while image.metadata_offset < end_offset:
            size = self._advance_in_segment(image, end_offset)
            replayed += size
            if not size and not self._find_segment(image) and not self._load_snapshot(image):
                raise FileNotFoundError(f"{self._path} has nothing at offset {image.metadata_offset}")
        return replayed

    def _advance_in_segment(self, image: MetadataImage, end_offset: int) -> int:
        """Replay what the current segment holds; the bytes of that, 0 also if it is gone."""
        try:
            descriptor = os.open(self._segment_path(self._segment_base), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
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
        return self._position - before

    def _find_segment(self, image: MetadataImage) -> bool:
        """Go where the image ends, in another segment than before. Whether there is one."""
        bases = [base for name in os.listdir(self._path) if (base := offset_of(name, LOG_SUFFIX)) is not None]
        base = max((base for base in bases if base <= image.metadata_offset), default=_NO_SEGMENT)
        if base in (_NO_SEGMENT, self._segment_base):
            return False
        self._segment_base, self._position = base, 0
        if base < image.metadata_offset:  # a snapshot ends in the middle of it
            try:
                self._position = self._position_of(image.metadata_offset)
            except FileNotFoundError:
                return True  # removed just now: looked for again
        return True

    def _position_of(self, offset: int) -> int:
        """Where in the current segment the batch of that offset begins, or is to begin."""
        end = 0
        file = RealReadFile(self._path, file_name(self._segment_base, LOG_SUFFIX))
        try:
            for position, header in scan(file, 0, file.size(), check=False):
                if header.base_offset >= offset:
                    return position
                end = position + header.size
        finally:
            file.release()
        return end

    def _load_snapshot(self, image: MetadataImage) -> bool:
        """Make the image what the newest snapshot says, if that is ahead of it. Whether it was."""
        while True:
            names = [found for name in os.listdir(self._path) if (found := parse_snapshot_name(name))]
            newest = max(names, default=None)
            if newest is None or newest.offset <= image.metadata_offset:
                return False
            try:
                image.become(self._read_snapshot(newest))
            except FileNotFoundError:  # a newer one took its place just now
                continue
            self._segment_base = _NO_SEGMENT
            return True

    def _read_snapshot(self, snapshot_id: OffsetAndEpoch) -> MetadataImage:
        path = os.path.join(self._path, snapshot_name(snapshot_id))
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not os.fstat(descriptor).st_size:
                raise OSError(EIO, f"{path} is empty")
            return decode_snapshot(memoryview(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ))).image
        except SnapshotError as error:
            raise OSError(EIO, f"{path}: {error}") from error
        finally:
            os.close(descriptor)

    def _segment_path(self, base: int) -> str:
        return os.path.join(self._path, f"{base:020d}{LOG_SUFFIX}")


def has_metadata(metadata_dir: str) -> bool:
    """Whether the metadata log there has anything in it; also if that cannot be looked at."""
    path = os.path.join(metadata_dir, METADATA_LOG)
    try:
        for name in os.listdir(path):
            if parse_snapshot_name(name) or offset_of(name, LOG_SUFFIX):
                return True
            if name == file_name(0, LOG_SUFFIX) and _begins_with_a_batch(path, name):
                return True
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _begins_with_a_batch(path: str, name: str) -> bool:
    file = RealReadFile(path, name)
    try:
        return _size_of_batch(file.read(0, HEADER_SIZE)) > 0
    finally:
        file.release()


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
