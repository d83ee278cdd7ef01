"""Kafka's DumpLogSegments accepts our files after a clean close, and after a crash, recovery and a close."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.log.logs import NOW, batch, fill, open_log

JARS = Path(os.environ.get("TAILRACE_PEERS", Path(__file__).parents[2] / ".peers")) / "jars"

pytestmark = pytest.mark.skipif(
    not JARS.is_dir() or shutil.which("java") is None, reason="needs java and Kafka's jars: make peers"
)


def dump(files: list[Path], *options: str) -> str:
    """What the tool prints of the files; it must not fail."""
    command = [
        "java",
        "-Xmx256m",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        f"{JARS}/*",
        "org.apache.kafka.tools.DumpLogSegments",
        *options,
    ]
    done = subprocess.run(
        [*command, "--files", ",".join(map(str, files))],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("crash", [False, True])
def test_dump_log_segments_reads_logs_indexes_and_snapshots(tmp_path: Path, crash: bool) -> None:
    log = open_log(tmp_path)
    fill(log, 800)
    for sequence in range(5):
        log.append_as_leader(
            batch("p", producer=77, sequence=sequence, timestamp=NOW + 900 + sequence), 1, NOW
        )
    log.close(clean=not crash)
    if crash:
        log = open_log(tmp_path, same_boot=False)
        log.close()
    logs = sorted(tmp_path.glob("*.log"))
    text = dump(logs, "--deep-iteration")
    assert text.count("isvalid: true") == 805
    assert "isvalid: false" not in text
    assert "invalid bytes" not in text
    indexes = sorted([*tmp_path.glob("*.index"), *tmp_path.glob("*.timeindex")])
    checked = dump(indexes, "--index-sanity-check")
    assert checked.count("passed sanity check") == len(indexes)
    full = dump(indexes)
    assert "Mismatches" not in full, full
    assert "Found" not in full, full
    assert "producerId: 77" in dump([max(tmp_path.glob("*.snapshot"))])
