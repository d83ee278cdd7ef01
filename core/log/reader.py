"""The read side of a log by descriptors alone: for the gateway, which must never touch mapped log data.

Where an offset lies comes from a hint (where the last read ended), else from the offset index and the batch
headers after the entry. Nothing at or above the high watermark's position is ever named.
"""

from bisect import bisect_right

from msgspec import Struct

from tailrace.core.log import offset_index
from tailrace.core.log.directory import Directory, ReadFile
from tailrace.core.log.log_view import LogView
from tailrace.core.log.segment import INDEX_SUFFIX, LOG_SUFFIX, file_name, offset_of
from tailrace.core.records.batch import HEADER_SIZE, MAGIC, BatchHeader, parse_header

SCAN_BYTES = 16 * 1024
WALK_BATCHES = 16  # headers read one by one from a hint before the index is asked
FILES_KEPT = 4


class Hint(Struct, frozen=True):
    """The batch of base offset `offset` begins at `position` of this segment: a place to look from."""

    generation: int
    segment_base: int
    offset: int
    position: int


class Located(Struct):
    """Bytes of one segment. The file stays open until the reader drops it: retain it to keep it longer."""

    file: ReadFile
    position: int
    length: int
    next_hint: Hint


class LogReader:
    """Finds offsets in the segments of one partition."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._files: dict[int, ReadFile] = {}
        self._bases: list[int] = []
        self._generation = -1

    def locate(
        self,
        offset: int,
        *,
        high_watermark: int,
        hw_segment_base_offset: int,
        hw_position: int,
        active_segment_base_offset: int,
        segment_generation: int,
        max_bytes: int,
        min_one: bool,
        hint: Hint | None,
    ) -> Located | None:
        """At most `max_bytes` from the batch that holds `offset` on; None when there are none to give.

        A first batch larger than that is given whole with `min_one`, else not at all; the last one may be cut
        short, as Kafka does. OSError when a file is gone or cannot be read.
        """
        if offset >= high_watermark:
            return None
        if segment_generation != self._generation:
            self.close()
            self._generation = segment_generation
        base = self._segment_of(offset, active_segment_base_offset)
        file = self._open(base)
        end = hw_position if base == hw_segment_base_offset else file.size()
        found = self._find(file, base, offset, end, hint)
        if found is None:
            return None
        position, first, first_offset = found
        length = min(max_bytes, end - position)
        if length < first:
            if not min_one:
                return None
            length = first
        next_hint = Hint(segment_generation, base, first_offset, position)
        if position + length == end:
            if base == hw_segment_base_offset:
                next_hint = Hint(segment_generation, base, high_watermark, end)
            else:
                next_base = self._next_base(base, active_segment_base_offset)
                next_hint = Hint(segment_generation, next_base, next_base, 0)
        return Located(file, position, length, next_hint)

    def locate_in(
        self, log: LogView, offset: int, max_bytes: int, hint: Hint | None = None
    ) -> Located | None:
        """As `locate`, for the owner of this directory's log: up to its end, past the high watermark. A first
        batch that is larger is given whole.
        """
        return self.locate(
            offset,
            high_watermark=log.log_end_offset,
            hw_segment_base_offset=log.active_base_offset,
            hw_position=log.active_position,
            active_segment_base_offset=log.active_base_offset,
            segment_generation=log.segment_generation,
            max_bytes=max_bytes,
            min_one=True,
            hint=hint,
        )

    def _segment_of(self, offset: int, active_base: int) -> int:
        if offset >= active_base:
            return active_base
        if not self._bases:
            names = self._directory.names()
            self._bases = sorted(base for name in names if (base := offset_of(name, LOG_SUFFIX)) is not None)
        place = bisect_right(self._bases, offset)
        if place == 0:
            raise FileNotFoundError(f"no segment holds offset {offset}")
        return self._bases[place - 1]

    def _next_base(self, base: int, active_base: int) -> int:
        place = bisect_right(self._bases, base)
        return self._bases[place] if place < len(self._bases) else active_base

    def _open(self, base: int) -> ReadFile:
        file = self._files.get(base)
        if file is None:
            while len(self._files) >= FILES_KEPT:
                self._files.pop(next(iter(self._files))).release()
            file = self._files[base] = self._directory.open_read(file_name(base, LOG_SUFFIX))
        return file

    def _find(
        self, file: ReadFile, base: int, offset: int, end: int, hint: Hint | None
    ) -> tuple[int, int, int] | None:
        """Position, size and base offset of the batch that holds `offset`."""
        if (
            hint is not None
            and hint.offset <= offset
            and hint.segment_base == base
            and hint.generation == self._generation
        ):
            found = self._walk(file, hint.position, offset, end)
            if found is not None:
                return found
        return self._scan(file, self._start(file, base, offset, end), offset, end)

    @staticmethod
    def _walk(file: ReadFile, position: int, offset: int, end: int) -> tuple[int, int, int] | None:
        """From header to header, a few: where a reader that goes on in order finds its next batch."""
        for _ in range(WALK_BATCHES):
            if end - position < HEADER_SIZE:
                return None
            header = parse_header(file.read(position, HEADER_SIZE))
            if not _may_be_batch(header, end - position):
                return None
            if header.last_offset >= offset:
                return position, header.size, header.base_offset
            position += header.size
        return None

    @staticmethod
    def _scan(file: ReadFile, position: int, offset: int, end: int) -> tuple[int, int, int] | None:
        """From an index entry on: batches are small there, many are read at once."""
        while position < end:
            chunk = file.read(position, min(SCAN_BYTES, end - position))
            at = 0
            while len(chunk) - at >= HEADER_SIZE:
                header = parse_header(chunk, at)
                if not _may_be_batch(header, end - position - at):
                    return None
                if header.last_offset >= offset:
                    return position + at, header.size, header.base_offset
                at += header.size
            if at == 0:
                return None
            position += at
        return None

    def _start(self, file: ReadFile, base: int, offset: int, end: int) -> int:
        """Where to scan from: what the index says, if a batch of that offset is there."""
        try:
            index = self._directory.open_read(file_name(base, INDEX_SUFFIX))
        except FileNotFoundError:
            return 0
        try:
            wanted = max(offset - base - 1, 0)
            while True:
                wanted, position = offset_index.look_up(index.read, index.size(), wanted)
                if position == 0 or _is_entry_of(file, position, base + wanted, end):
                    return position
                # (R) a damaged entry leads nowhere: the one before it, or the start of the segment
                wanted -= 1
        finally:
            index.release()

    def close(self) -> None:
        """Drop the descriptors that nobody else holds."""
        for file in self._files.values():
            file.release()
        self._files.clear()
        self._bases = []


def _may_be_batch(header: BatchHeader, room: int) -> bool:
    """(R) Damaged sizes lead out of the file, or back: what is sent ends where it should."""
    return header.magic == MAGIC and HEADER_SIZE <= header.size <= room


def _is_entry_of(file: ReadFile, position: int, last_offset: int, end: int) -> bool:
    if not 0 < position <= end - HEADER_SIZE:
        return False
    header = parse_header(file.read(position, HEADER_SIZE))
    return _may_be_batch(header, end - position) and header.last_offset == last_offset
