"""What must be the same everywhere, and what must not be left, once a cluster is whole after its injuries."""

import os
from itertools import pairwise
from mmap import PROT_READ, mmap
from pathlib import Path

from perf.processes import tree
from tailrace.core.log.segment import LOG_SUFFIX
from tailrace.core.records.batch import HEADER_SIZE, parse_header
from tailrace.shm.names import parse_ring_name
from tailrace.shm.slots import SUPERVISOR_SLOT, SlotTable
from tailrace.workers.data_dir import read_info
from tailrace.workers.status import BrokerStatus, read_status


def ends_of(status: BrokerStatus, topic_id: bytes, partition: int) -> list[tuple[int, int]]:
    """(log end offset, high watermark) of each replica that is served."""
    return [
        (part.log_end_offset, part.high_watermark)
        for process in status.processes
        for part in process.partitions
        if (part.topic_id, part.partition) == (topic_id, partition)
    ]


def batches_of(folder: Path) -> bytes:
    """All batches of a partition, one segment after the other."""
    found: list[bytes] = []
    for path in sorted(folder.glob(f"*{LOG_SUFFIX}")):
        if not path.stat().st_size:
            continue
        with path.open("rb") as file, mmap(file.fileno(), 0, prot=PROT_READ) as data:
            position = 0
            while position + HEADER_SIZE <= len(data):
                size = parse_header(data[position : position + HEADER_SIZE], 0).size
                if size <= HEADER_SIZE:  # reserved, and not written
                    break
                position += size
            found.append(data[:position])
    return b"".join(found)


def differences(folders: list[Path]) -> list[str]:
    """Replicas of one partition that do not hold the same bytes."""
    held = [(folder, batches_of(folder)) for folder in folders]
    return [
        f"{one} has {len(own)} bytes, {other} {len(others)}: the same up to {_same(own, others)}"
        for (one, own), (other, others) in pairwise(held)
        if own != others
    ]


def _same(one: bytes, other: bytes) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), -1)


def leaks(data: str, root: int) -> list[str]:
    """Files of dead processes in the run directory, mappings and descriptors of files that are gone,
    processes that are in no table.
    """
    info, status = read_info(data), read_status(data)
    assert info is not None
    assert status is not None
    slots = SlotTable.attach(os.path.join(info.run_dir, "slots"))
    try:
        found = [name for name in os.listdir(info.run_dir) if _is_of_the_dead(name, slots)]
    finally:
        slots.region.close()
    found += [f"process {pid}" for pid in set(tree(root)) - {each.pid for each in status.processes}]
    for process in status.processes:
        found += [f"{process.role} of {process.broker}: {path}" for path in _gone(process.pid)]
    return found


def _is_of_the_dead(name: str, slots: SlotTable) -> bool:
    ends = parse_ring_name(name)
    if ends is not None:
        return not (slots.is_live(ends[0], ends[1]) and slots.is_live(ends[2], ends[3]))
    kind, _, rest = name.partition("-")
    if kind in ("arena", "links", "large"):
        slot, incarnation = map(int, rest.partition("-")[0].split("."))
        return not slots.is_live(slot, incarnation)
    return False


def _gone(pid: int) -> list[str]:
    """Files that this process holds though nobody finds them any more."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        held = {line.split(None, 5)[5] for line in lines if line.endswith("(deleted)")}
        for link in Path(f"/proc/{pid}/fd").iterdir():
            held.add(os.readlink(link))
    except (FileNotFoundError, ProcessLookupError):
        return []
    return sorted(path for path in held if path.endswith("(deleted)") and not _is_inherited(path))


def _is_inherited(path: str) -> bool:
    """A ring of the supervisor's, which its children had with the fork."""
    ends = parse_ring_name(os.path.basename(path.removesuffix(" (deleted)")))
    return ends is not None and SUPERVISOR_SLOT in (ends[0], ends[2])
