"""kcat's small languages: escapes in delimiters, and the format of `consume -f`."""

from collections.abc import Callable
from typing import Any

from tailrace.clients.consumer import Consumed

_ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\"}


def unescape(text: str) -> bytes:
    r"""The bytes of a text with \n, \t, \r, \0, \\ and \xHH in it; ValueError for another escape."""
    out = bytearray()
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if char != "\\":
            out += char.encode("utf-8", "surrogateescape")
            continue
        escape = text[position : position + 1]
        position += 1
        if escape == "x":
            digits = text[position : position + 2]
            if len(digits) != 2:
                raise ValueError(f"\\x takes two hexadecimal digits, not {digits!r}")
            out.append(int(digits, 16))
            position += 2
        elif escape in _ESCAPES:
            out += _ESCAPES[escape]
        else:
            raise ValueError(f"unknown escape \\{escape}")
    return bytes(out)


Formatter = Callable[[Consumed], bytes]


def compile_format(text: str) -> Formatter:
    """A function that prints a record by kcat's format; ValueError for a field nobody knows."""
    pieces: list[bytes | Formatter] = []
    position = 0
    while position < len(text):
        percent = text.find("%", position)
        if percent < 0:
            pieces.append(unescape(text[position:]))
            break
        pieces.append(unescape(text[position:percent]))
        field = text[percent + 1 : percent + 2]
        if field == "%":
            pieces.append(b"%")
        elif field in FIELDS:
            pieces.append(FIELDS[field])
        else:
            raise ValueError(
                f"unknown field %{field}: known are {' '.join('%' + name for name in FIELDS)} %%"
            )
        position = percent + 2
    return lambda record: b"".join(piece if isinstance(piece, bytes) else piece(record) for piece in pieces)


def _length(data: bytes | None) -> bytes:
    return b"%d" % (-1 if data is None else len(data))


def _headers(record: Consumed) -> bytes:
    return b",".join(
        name.encode() + b"=" + (b"NULL" if value is None else value) for name, value in record.headers
    )


FIELDS: dict[str, Formatter] = {
    "s": lambda record: record.value or b"",
    "S": lambda record: _length(record.value),
    "k": lambda record: record.key or b"",
    "K": lambda record: _length(record.key),
    "T": lambda record: b"%d" % record.timestamp,
    "h": _headers,
    "o": lambda record: b"%d" % record.offset,
    "p": lambda record: b"%d" % record.partition,
    "t": lambda record: record.topic.encode(),
}


def envelope(record: Consumed) -> dict[str, Any]:
    """The record as kcat's -J prints it; bytes that are no UTF-8 show as U+FFFD."""
    shown: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "tstype": "logappend" if record.log_append_time else "create",
        "ts": record.timestamp,
    }
    if record.headers:
        shown["headers"] = [part for name, value in record.headers for part in (name, _text(value))]
    shown["key"] = _text(record.key)
    shown["payload"] = _text(record.value)
    return shown


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "replace")
