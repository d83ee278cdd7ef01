"""Places in a partition, as the command line takes them."""

import time
from pathlib import Path

import click
import pytest

from tailrace.clients.admin import Admin
from tailrace.clients.cli.places import (
    Place,
    parse_duration_ms,
    parse_place,
    parse_time_ms,
    read_offsets_file,
    resolve,
)
from tailrace.clients.cluster import Cluster
from tailrace.clients.producer import Producer
from tests.support.fake_broker import FakeBroker


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("start", Place(kind="start")),
        ("end", Place(kind="end")),
        ("12", Place(kind="offset", number=12)),
        ("+5", Place(kind="shift", number=5)),
        ("-5", Place(kind="shift", number=-5)),
        ("@1769860800000", Place(kind="time", number=1_769_860_800_000)),
        ("@2026-01-31T12:00", Place(kind="time", number=1_769_860_800_000)),
        ("@2026-01-31T14:00:00.000+02:00", Place(kind="time", number=1_769_860_800_000)),
    ],
)
def test_places_are_understood(text: str, place: Place) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize("text", ["", "+", "-", "x", "1.5", "@", "@x", "@-5y", "٣", "1" * 19, "@2026-13-01"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError):
        parse_place(text)


def test_times_and_durations() -> None:
    before = int(time.time() * 1000)
    assert before - 5_400_000 <= parse_time_ms("-90m") <= int(time.time() * 1000) - 5_400_000
    assert parse_duration_ms("P1DT2H3M4.5S") == 86_400_000 + 7_200_000 + 180_000 + 4_000
    for text in ("", "P", "PT", "1h", "P1M"):
        with pytest.raises(click.UsageError):
            parse_duration_ms(text)


def test_offsets_in_files(tmp_path: Path) -> None:
    path = tmp_path / "offsets"
    path.write_text('orders,0,10\norders 1 20\n\n"mine","bills",2,30\nother,bills,2,99\n')
    assert read_offsets_file(str(path), "mine") == {"orders": {0: 10, 1: 20}, "bills": {2: 30}}
    for text in ("orders,0", "orders,x,1", "other,bills,2,99", ""):
        path.write_text(text)
        with pytest.raises(click.UsageError):
            read_offsets_file(str(path), "mine")


def test_places_become_offsets_between_start_and_end() -> None:
    with FakeBroker() as broker, Cluster(broker.address) as cluster:
        broker.add_topic("orders", 1)
        with Producer(cluster) as producer:
            for number in range(10):
                producer.send("orders", b"x", partition=0, timestamp_ms=1000 + number)
                producer.flush()
        broker.starts["orders", 0] = 2

        def offset(text: str, committed: int | None = None) -> int:
            known = {} if committed is None else {0: committed}
            return resolve(Admin(cluster), "orders", {0: parse_place(text)}, known)[0]

        assert [offset(text) for text in ("start", "end", "5", "0", "99")] == [2, 10, 5, 2, 10]
        assert [offset("+3", 4), offset("-3", 4), offset("+3"), offset("+99", 4)] == [7, 2, 5, 10]
        assert [offset("@1004"), offset("@5000")] == [4, 10]
        current = Place(kind="current")
        assert resolve(Admin(cluster), "orders", {0: current}, {0: 6}) == {0: 6}
        assert resolve(Admin(cluster), "orders", {0: current}, {}) == {0: 10}


def test_a_time_before_1970_is_1970() -> None:
    assert parse_time_ms("-" + "9" * 30 + "d") == 0
