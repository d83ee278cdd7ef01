"""Answers to a socket: bytes gathered, file ranges by sendfile without a copy."""

import os
import socket
from collections import deque
from typing import Any

from tailrace.core.log.directory import ReadFile

GATHER_BYTES = 64 * 1024
SENDFILE_BYTES_MAX = 2 * 1024 * 1024  # a call, so that one reader does not hold the loop


class FileRange:
    """Bytes of a segment, whose descriptor is held until they are sent."""

    __slots__ = ("_length", "file", "position")

    def __init__(self, file: ReadFile, position: int, length: int) -> None:
        file.retain()
        self.file = file
        self.position = position
        self._length = length

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
    """
    try:
        while out:
            piece = out[0]
            if type(piece) is FileRange:
                sent = os.sendfile(fd, piece.file.fd, piece.position, min(len(piece), SENDFILE_BYTES_MAX))
                if sent == 0:
                    return None
                piece.advance(sent)
                if not len(piece):
                    out.popleft()
                    piece.release()
            else:
                _send_bytes(sock, out)
    except BlockingIOError:
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
