"""Who runs: the slot table and the state table of a running broker, read and never written.

Both are readable at any moment, whatever the processes do; a broker that has just stopped is simply not
there.
"""

import os
from typing import Any

import msgspec

from tailrace.core.ids import uuid_text
from tailrace.core.log.directory import bytes_lacking
from tailrace.core.log.segment import CHUNK_FIRST
from tailrace.shm import state_table as rows
from tailrace.shm.log_dir_table import LogDirTable, log_dirs_name
from tailrace.shm.region import ShmError
from tailrace.shm.slots import FREE, Layout, SlotTable, role_name, state_name
from tailrace.shm.state_table import StateTable, topic_id_bytes
from tailrace.workers.control_socket import Question, ask
from tailrace.workers.data_dir import BrokerInfo, RunInfo, read_info


class PartitionStatus(msgspec.Struct, kw_only=True, frozen=True):
    """A replica and its owner."""

    topic_id: bytes
    partition: int
    leader_epoch: int
    log_start_offset: int
    log_end_offset: int
    high_watermark: int
    offline: bool


class ProcessStatus(msgspec.Struct, kw_only=True, frozen=True):
    """One process of the broker."""

    role: str
    pid: int
    broker: int
    slot: int
    incarnation: int
    state: str
    partitions: list[PartitionStatus]


class VirtualBroker(msgspec.Struct, kw_only=True, frozen=True):
    """One of the brokers of a run; `state` is its gateway's: whether clients reach it."""

    node_id: int
    bootstrap: str
    unix: str
    state: str


class LogDirStatus(msgspec.Struct, kw_only=True, frozen=True):
    """A log directory; `failure` is what took it out of service, empty while it serves. `lacking_bytes`: its
    disk is full, appends are refused until so much is freed.
    """

    path: str
    failure: str
    lacking_bytes: int = 0
    broker: int = 0


class BrokerStatus(msgspec.Struct, kw_only=True, frozen=True):
    """What runs on a data directory: one broker, or several."""

    data: str
    run_dir: str
    bootstrap: str
    unix: str
    flush_policy: str  # when what is acknowledged is on the disk
    brokers: list[VirtualBroker]
    processes: list[ProcessStatus]
    log_dirs: list[LogDirStatus]


def read_status(data_dir: str) -> BrokerStatus | None:
    """The broker that holds this data directory, or None when none does."""
    try:
        info = read_info(data_dir)
        if info is None:
            return None
        slots = SlotTable.attach(os.path.join(info.run_dir, "slots"))
        try:
            table = StateTable.attach(os.path.join(info.run_dir, "state"))
            try:
                processes = _processes(slots, _partitions(table), info.brokers[0].node_id)
                log_dirs = _log_dirs(info)
                brokers = [_broker(slots, index, broker) for index, broker in enumerate(info.brokers)]
            finally:
                table.region.close()
        finally:
            slots.region.close()
    except (ShmError, OSError):
        if read_info(data_dir) is None:  # it stopped while we looked
            return None
        raise
    return BrokerStatus(
        data=data_dir,
        run_dir=info.run_dir,
        bootstrap=info.bootstrap,
        unix=info.unix,
        flush_policy=info.flush_policy,
        brokers=brokers,
        processes=processes,
        log_dirs=log_dirs,
    )


def as_json(status: BrokerStatus) -> dict[str, Any]:
    """The status as values that JSON knows, topic ids in Kafka's text form."""
    shown: dict[str, Any] = msgspec.to_builtins(status)
    for process, plain in zip(status.processes, shown["processes"], strict=True):
        for owned, entry in zip(process.partitions, plain["partitions"], strict=True):
            entry["topic_id"] = uuid_text(owned.topic_id)
    return shown


def read_pid(data_dir: str) -> int | None:
    """The supervisor of the broker that holds this data directory."""
    info = read_info(data_dir)
    return None if info is None else info.pid


def ask_supervisor(data_dir: str, what: str, broker: int, timeout_s: float) -> list[dict[str, Any]] | None:
    """Ask the supervisor that holds this data directory (see `control_socket`); None when none does. Raises
    ControlError.
    """
    info = read_info(data_dir)
    if info is None:
        return None
    answer = ask(info.run_dir, Question(what, broker), timeout_s)
    shown: list[dict[str, Any]] = msgspec.to_builtins(answer.brokers)
    return shown


def _broker(slots: SlotTable, index: int, info: BrokerInfo) -> VirtualBroker:
    slot = Layout.gateway(index)
    state = state_name(slots.state(slot)) if slots.live_incarnation(slot) else "stopped"
    return VirtualBroker(node_id=info.node_id, bootstrap=info.bootstrap, unix=info.unix, state=state)


def _log_dirs(info: RunInfo) -> list[LogDirStatus]:
    found: list[LogDirStatus] = []
    for index, broker in enumerate(info.brokers):
        table = LogDirTable.attach(os.path.join(info.run_dir, log_dirs_name(index)))
        try:
            failures = list(map(table.failure, range(table.count)))
        finally:
            table.region.close()
        found += [
            LogDirStatus(
                path=path,
                failure=os.strerror(number) if number else "",
                lacking_bytes=_lacking_bytes(path, info),
                broker=broker.node_id,
            )
            for path, number in zip(broker.log_dirs, failures, strict=True)
        ]
    return found


def _lacking_bytes(path: str, info: RunInfo) -> int:
    try:
        return bytes_lacking(path, CHUNK_FIRST, info.disk_reserve_bytes)
    except OSError:  # it is gone, and `failure` says so, or will soon
        return 0


def _partitions(table: StateTable) -> dict[tuple[int, int], list[PartitionStatus]]:
    """Replicas by the slot and incarnation of their owner."""
    found: dict[tuple[int, int], list[PartitionStatus]] = {}
    for number in range(table.rows):
        row = table.read(number)
        if row[rows.ROLE] == rows.ROLE_NONE:
            continue
        owner = row[rows.OWNER]
        status = PartitionStatus(
            topic_id=topic_id_bytes(row[rows.TOPIC_ID_HI], row[rows.TOPIC_ID_LO]),
            partition=row[rows.PARTITION],
            leader_epoch=row[rows.LEADER_EPOCH],
            log_start_offset=row[rows.LOG_START_OFFSET],
            log_end_offset=row[rows.LOG_END_OFFSET],
            high_watermark=row[rows.HIGH_WATERMARK],
            offline=row[rows.ROLE] == rows.ROLE_OFFLINE,
        )
        found.setdefault((owner >> 32, owner & 0xFFFFFFFF), []).append(status)
    return found


def _processes(
    slots: SlotTable, partitions: dict[tuple[int, int], list[PartitionStatus]], first_id: int
) -> list[ProcessStatus]:
    processes: list[ProcessStatus] = []
    for slot in range(slots.count):
        incarnation = slots.live_incarnation(slot)
        if incarnation and slots.state(slot) != FREE:
            owned = partitions.get((slot, incarnation), [])
            processes.append(
                ProcessStatus(
                    role=role_name(slots.role(slot)),
                    pid=slots.pid(slot),
                    broker=first_id + slots.broker(slot),
                    slot=slot,
                    incarnation=incarnation,
                    state=state_name(slots.state(slot)),
                    partitions=sorted(owned, key=lambda item: (item.topic_id, item.partition)),
                )
            )
    return processes
