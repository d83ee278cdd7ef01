"""Reads the batches of a segment file one after another, by descriptor, never past what is whole."""

from collections.abc import Iterator

from tailrace.core.log.directory import ReadFile
from tailrace.core.records.batch import HEADER_SIZE, MAGIC, BatchHeader, check_stored, parse_header

CHUNK = 64 * 1024


def scan(
    file: ReadFile, start: int, end: int, *, check: bool, chunk_size: int = CHUNK
) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of each sound batch from `start`, until the first that is not; with `check` also its
    CRC. chunk_size: bytes read at a time, at least a header's.
    """
    position, chunk, chunk_at = start, b"", start
    while end - position >= HEADER_SIZE:
        at = position - chunk_at
        if at < 0 or len(chunk) - at < HEADER_SIZE:
            chunk, chunk_at, at = file.read(position, min(chunk_size, end - position)), position, 0
            if len(chunk) < HEADER_SIZE:
                return
        header = parse_header(chunk, at)
        if (
            header.magic != MAGIC
            or header.size < HEADER_SIZE
            or header.size > end - position
            or header.base_offset < 0
        ):
            return
        if check:
            if len(chunk) - at < header.size:
                chunk, chunk_at, at = (
                    file.read(position, max(header.size, min(chunk_size, end - position))),
                    position,
                    0,
                )
            if check_stored(memoryview(chunk)[at : at + header.size], header):
                return
        yield position, header
        position += header.size
