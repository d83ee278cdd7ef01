"""How commands fail: one line on stderr and an exit code that scripts can tell apart."""

import sys
from contextlib import suppress
from typing import NoReturn

FAILED = 1
USAGE = 2
UNREACHABLE = 3
NOT_AUTHORISED = 4
NOT_FOUND = 5
INTERRUPTED = 130


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Say why, on one line, and end."""
    say(message)
    raise SystemExit(code)


def say(message: str) -> None:
    """One line on stderr, without what a terminal would obey."""
    line = " ".join(message.split())
    if not line.isprintable():
        line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
    with suppress(OSError):  # whoever read our complaints is gone
        sys.stderr.write(f"tailrace: {line}\n")
        sys.stderr.flush()
