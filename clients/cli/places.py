"""Where in a partition: the small language of `group seek` and `topic trim`, and files of offsets.

start, end                the first offset there is, the offset of the next record
1234                      an offset
+10, -10                  as many records after or before the committed offset
@2026-01-31T12:00         the first record at or after a time (UTC unless it says otherwise), or
@1769860800000            in milliseconds since 1970
@-90m                     so long ago: s, m, h or d
"""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import click
import msgspec

from tailrace.clients.admin import Admin
from tailrace.clients.groups import Offsets
from tailrace.core.protocol.messages.list_offsets import EARLIEST, LATEST

START, END, OFFSET, SHIFT, TIME, CURRENT = "start", "end", "offset", "shift", "time", "current"
UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
DURATION = re.compile(
    r"P(?:(?P<d>\d+)D)?(?:T(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+)(?:\.\d+)?S)?)?", re.IGNORECASE
)


class Place(msgspec.Struct, kw_only=True, frozen=True):
    """A place, and the number that goes with it: an offset, a count of records, or ms since 1970."""

    kind: str
    number: int = 0


def parse_place(text: str) -> Place:
    """A place as people write it; a usage error for what is none."""
    if text in (START, END):
        return Place(kind=text)
    if text.startswith("@"):
        return Place(kind=TIME, number=parse_time_ms(text[1:]))
    sign, digits = (text[:1], text[1:]) if text[:1] in ("+", "-") else ("", text)
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise click.UsageError(f"{text!r} is no place: start, end, OFFSET, +N, -N or @TIME is expected")
    number = -int(digits) if sign == "-" else int(digits)
    return Place(kind=SHIFT if sign else OFFSET, number=number)


def parse_time_ms(text: str) -> int:
    """A point in time in ms: milliseconds, `-90m` ago, or ISO 8601, which is UTC unless it says otherwise."""
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    if text[:1] == "-" and text[-1:] in UNITS_MS and text[1:-1].isdecimal():
        return ago_ms(int(text[1:-1]) * UNITS_MS[text[-1]])
    try:
        found = datetime.fromisoformat(text)
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise click.UsageError(
            f"{text!r} is no time: 2026-01-31T12:00, milliseconds since 1970 or -90m is expected"
        ) from None


def ago_ms(duration_ms: int) -> int:
    """The time so many ms ago, in ms since 1970: not before, where no record is from."""
    return max(int(time.time() * 1000) - duration_ms, 0)


def parse_duration_ms(text: str) -> int:
    """An ISO 8601 duration as Kafka's tools take it, such as P1DT12H; a usage error for what is none."""
    found = DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        raise click.UsageError(f"{text!r} is no duration: PnDTnHnMnS is expected, such as PT1H30M")
    return sum(int(found[unit]) * UNITS_MS[unit] for unit in UNITS_MS if found[unit])


def resolve(
    admin: Admin, topic: str, places: Mapping[int, Place], committed: Mapping[int, int]
) -> dict[int, int]:
    """The offset of each partition's place, kept between the first and the end of what is there.

    A shift counts from the committed offset, from the start where there is none.
    """
    starts = {
        index: found.offset
        for index, found in admin.find_offsets(topic, dict.fromkeys(places, EARLIEST)).items()
    }
    ends = {
        index: found.offset
        for index, found in admin.find_offsets(topic, dict.fromkeys(places, LATEST)).items()
    }
    times = {index: place.number for index, place in places.items() if place.kind == TIME}
    timed = admin.find_offsets(topic, times)
    offsets: dict[int, int] = {}
    for index, place in places.items():
        offset = place.number
        if place.kind == START:
            offset = starts[index]
        elif place.kind == END:
            offset = ends[index]
        elif place.kind == SHIFT:
            offset = committed.get(index, starts[index]) + place.number
        elif place.kind == CURRENT:
            offset = committed.get(index, ends[index])  # as Kafka's tool
        elif place.kind == TIME:
            offset = timed[index].offset if timed[index].offset >= 0 else ends[index]
        offsets[index] = min(max(offset, starts[index]), ends[index])
    return offsets


def read_offsets_file(path: str, group: str) -> Offsets:
    """Offsets of a group from a file: TOPIC PARTITION OFFSET a line, with blanks or commas between.

    Lines may begin with a group, as Kafka's tool writes those of several; lines of other groups are passed
    over. A usage error names the line that is wrong.
    """
    found: Offsets = {}
    with click.open_file(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            fields = re.split(r"[,\s]+", line.replace('"', "").strip())
            if fields == [""]:
                continue
            if len(fields) == 4:
                owner, *fields = fields
                if owner != group:
                    continue
            if len(fields) != 3 or not all(field.isascii() and field.isdigit() for field in fields[1:]):
                raise click.UsageError(f"{path}, line {number}: TOPIC PARTITION OFFSET is expected")
            found.setdefault(fields[0], {})[int(fields[1])] = int(fields[2])
    if not found:
        raise click.UsageError(f"{path} has no offset of group {group}")
    return found
