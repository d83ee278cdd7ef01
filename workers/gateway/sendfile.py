"""Answers to a socket: bytes gathered, file ranges by sendfile without a copy."""

import os
import socket
from collections import deque
from typing import Any

from tailrace.core.log.directory import ReadFile
from tailrace.workers.gateway.cold_reads import ColdRead, is_warm

GATHER_BYTES = 64 * 1024
SENDFILE_BYTES_MAX = 2 * 1024 * 1024  # a call, so that one reader does not hold the loop


class FileRange:
    """Bytes of a segment, whose descriptor is held until they are sent."""

    __slots__ = ("_length", "file", "is_checked", "position")

    def __init__(self, file: ReadFile, position: int, length: int) -> None:
        file.retain()
        self.file = file
        self.position = position
        self._length = length
        self.is_checked = True  # that it is in the page cache, a moment ago

    def __len__(self) -> int:
        return self._length

    def advance(self, count: int) -> None:
        """So many bytes are sent."""
        self.position += count
        self._length -= count

    def release(self) -> None:
        """Let go of the descriptor."""
        self.file.release()


def send_pieces(sock: socket.socket, fd: int, out: "deque[Any]") -> bool | None:
    """Send from the front of `out` until it is empty (True) or the socket is full (False).

    None: a file was shorter than promised, so that the connection cannot go on. OSError from the socket.
    ColdRead: what is next is on the disk.
    """
    try:
        while out:
            piece = out[0]
            if type(piece) is FileRange:
                length = min(len(piece), SENDFILE_BYTES_MAX)
                if not piece.is_checked and not is_warm(piece.file.fd, piece.position, length):
                    raise ColdRead(piece.file, piece.position, length)
                sent = os.sendfile(fd, piece.file.fd, piece.position, length)
                if sent == 0:
                    return None
                piece.advance(sent)
                if not len(piece):
                    out.popleft()
                    piece.release()
            else:
                _send_bytes(sock, out)
    except BlockingIOError:
        if type(out[0]) is FileRange:
            out[0].is_checked = False  # its reader may take its time
        return False
    return True


def _send_bytes(sock: socket.socket, out: "deque[Any]") -> None:
    data = out.popleft()
    if out and len(data) < GATHER_BYTES and type(out[0]) is not FileRange:
        parts, size = [data], len(data)
        while out and size < GATHER_BYTES and type(out[0]) is not FileRange:
            size += len(out[0])
            parts.append(out.popleft())
        data = b"".join(parts)
    flags = socket.MSG_MORE if out else 0
    try:
        sent = sock.send(data, flags)
    except BlockingIOError:
        out.appendleft(data)
        raise
    if sent < len(data):
        out.appendleft(memoryview(data)[sent:])
