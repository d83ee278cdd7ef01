"""The table of `make perf` tells what was measured."""

from pathlib import Path

import pytest

from perf import images, replicated, scale
from perf.batches import batch_of_size
from perf.report import Report
from perf.workloads import IDLE, LOADED, MEMORY, REQUESTS, START_UP, TARGETS, WORKLOADS
from tailrace.core.records.batch import check_stored, parse_header


def test_every_target_names_a_workload_that_exists() -> None:
    names = {workload.name for workload in WORKLOADS} | {START_UP, REQUESTS, MEMORY, IDLE, LOADED}
    assert {target.workload for target in TARGETS} <= names | scale.NAMES | replicated.NAMES | {images.ROW}


def test_ratios_are_ours_over_kafka_with_the_verdict_of_the_target() -> None:
    report = Report()
    for value in (100.0, 400.0, 120.0):
        report.add(REQUESTS, "requests in 3 s", "kafka", "tcp", {"requests in 3 s": value})
    report.add(REQUESTS, "requests in 3 s", "tailrace", "tcp", {"requests in 3 s": 1200.0})
    report.add(MEMORY, "PSS MB", "kafka", "tcp", {"PSS MB": 100.0})
    report.add(MEMORY, "PSS MB", "tailrace", "tcp", {"PSS MB": 30.0})
    lines = {line[:20].strip(): line for line in report.table().splitlines()}
    requests, memory = lines[REQUESTS[:20].strip()], lines[MEMORY]
    assert report.median(REQUESTS, "kafka", "tcp") == 120
    assert requests.split()[-1] == "met"
    assert " 10 " in requests
    assert memory.split()[-1] == "MISSED"


@pytest.mark.parametrize(("ours", "verdict"), [(0.9, "met"), (1.1, "MISSED")])
def test_a_target_with_a_unit_looks_at_our_figure_alone(ours: float, verdict: str) -> None:
    report = Report()
    report.add(LOADED, "s", "kafka", "tcp", {"s": 1.0})
    report.add(LOADED, "s", "tailrace", "tcp", {"s": ours})
    assert report.table().splitlines()[1].endswith(f"tcp <= 1 s {verdict}")


def test_the_file_holds_every_round(tmp_path: Path) -> None:
    report = Report()
    for value in (1.0, 2.0):
        report.add(IDLE, "idle CPU %", "kafka", "tcp", {"idle CPU %": value})
    report.save(tmp_path / "results" / "one.json", {"kafka": "x"})
    text = (tmp_path / "results" / "one.json").read_text()
    assert '"idle CPU %": 1.0' in text
    assert '"idle CPU %": 2.0' in text


@pytest.mark.parametrize(("size", "record_size"), [(161, 100), (16 << 10, 1 << 10), (1 << 20, 1 << 10)])
def test_batches_are_whole_and_of_the_size_asked_for(size: int, record_size: int) -> None:
    batch = batch_of_size(size, record_size)
    assert len(batch.data) == size
    header = parse_header(batch.data)
    assert header.record_count == batch.records
    assert check_stored(memoryview(batch.data), header) == ""
