"""What `tailrace doctor` looks at: each check says what it found, and when that is not well, what to do.

Nothing is written and nothing is started. A check knows the machine, the configuration that `tailrace start`
would obey, and, if one runs, the broker.
"""

import fcntl
import os
import platform
import resource
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from tailrace.clients.cli.hooks import Hooks
from tailrace.clients.cluster import Cluster
from tailrace.clients.connection import UnreachableError
from tailrace.core.config import BrokerConfig
from tailrace.core.config_brokers import split
from tailrace.core.errors import KafkaError, ProtocolError
from tailrace.core.listeners import address_text
from tailrace.shm.names import BASE, debris

OK, WARN, FAIL = "ok", "warn", "fail"
MIB = 1 << 20
SHM_FAIL_BYTES, SHM_WARN_BYTES = (
    48 * MIB,
    128 * MIB,
)  # one gateway's receive memory, and room for large requests
FILES_FAIL, FILES_WARN = 512, 8192
DISK_FAIL_BYTES, DISK_WARN_BYTES = 64 * MIB, 1024 * MIB
DISK_WARN_SHARE = 0.05
SLOW_CLOCKS = ("hpet", "acpi_pm", "jiffies")
REMOTE_FILE_SYSTEMS = ("nfs", "cifs", "smb", "9p", "fuse", "ceph", "gluster")
BUILT_AFTER_S = 1_735_689_600  # 2025: a clock before that was never set
SKEW_S = 60.0
ASK_TIMEOUT_S = 5.0


class Finding(msgspec.Struct, kw_only=True, frozen=True):
    """One line: ok, warn or fail, what was looked at, what was found, and what to do about it."""

    status: str
    check: str
    found: str
    advice: str = ""


class Patient(msgspec.Struct, kw_only=True, frozen=True):
    """What is examined."""

    hooks: Hooks
    config: BrokerConfig
    data: str  # its data directory, of several one that the broker holds
    directories: tuple[str, ...]  # all of them
    pid: int | None  # of the broker that holds it


def examine(patient: Patient) -> Iterator[Finding]:
    """Every finding, the machine first."""
    for check in CHECKS:
        yield from check(patient)


def _platform(_: Patient) -> Iterator[Finding]:
    python, system, machine = platform.python_implementation(), platform.system(), platform.machine()
    found = f"{python} {platform.python_version()} on {system} {machine}"
    if (python, system, machine) != ("CPython", "Linux", "x86_64") or sys.version_info < (3, 11):
        advice = "CPython 3.11 or newer on Linux and x86-64 is needed"
        yield Finding(status=FAIL, check="platform", found=found, advice=advice)
    else:
        yield Finding(status=OK, check="platform", found=found)


def _kernel(_: Patient) -> Iterator[Finding]:
    try:
        os.close(os.pidfd_open(os.getpid()))
        os.close(os.eventfd(0))
    except OSError as error:
        advice = "Linux 5.3 or newer is needed, and a container must not forbid pidfd_open and eventfd"
        yield Finding(
            status=FAIL, check="kernel", found=f"{platform.release()}: {error.strerror}", advice=advice
        )
    else:
        yield Finding(status=OK, check="kernel", found=f"{platform.release()}, {os.cpu_count()} processors")


def _shared_memory(patient: Patient) -> Iterator[Finding]:
    base = patient.config.run_dir or BASE
    try:
        usage = shutil.disk_usage(base)
    except OSError as error:
        advice = f"mount a tmpfs at {base}"
        yield Finding(status=FAIL, check="shared memory", found=f"{base}: {error.strerror}", advice=advice)
        return
    found = f"{base}: {_size(usage.free)} of {_size(usage.total)} free"
    advice = (
        ""
        if usage.free >= SHM_WARN_BYTES
        else f"give {base} {_size(SHM_WARN_BYTES)} or more (--shm-size of a container)"
    )
    status = _graded(usage.free, SHM_FAIL_BYTES, SHM_WARN_BYTES)
    if not os.access(base, os.W_OK | os.X_OK):
        status, advice = FAIL, f"{base} has to be writable by this user"
    yield Finding(status=status, check="shared memory", found=found, advice=advice)


def _leftovers(patient: Patient) -> Iterator[Finding]:
    base = patient.config.run_dir or BASE
    left = debris(base)
    if left:
        found = f"{len(left)} run directories of dead brokers in {base}"
        yield Finding(
            status=WARN, check="leftovers", found=found, advice="the next `tailrace start` removes them"
        )
    else:
        yield Finding(status=OK, check="leftovers", found=f"no run directory of a dead broker in {base}")


def _open_files(_: Patient) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    advice = "" if most >= FILES_WARN else f"raise the hard limit (ulimit -Hn) to {FILES_WARN} or more"
    found = f"{soft} open files a process, at most {'any number' if most == sys.maxsize else most}"
    yield Finding(
        status=_graded(most, FILES_FAIL, FILES_WARN), check="open files", found=found, advice=advice
    )


def _clock(patient: Patient) -> Iterator[Finding]:
    now_s, status, advice = time.time(), OK, ""
    source = _read("/sys/devices/system/clocksource/clocksource0/current_clocksource") or "unknown"
    if source in SLOW_CLOCKS:
        status, advice = (
            WARN,
            "every look at the clock is slow; choose tsc or the hypervisor's clock if the machine has it",
        )
    newest_s = max(map(_newest_s, patient.directories))
    if now_s < BUILT_AFTER_S or newest_s > now_s + SKEW_S:
        status, advice = WARN, "set the clock: timestamps and rolls by age follow it"
    found = f"{time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(now_s))}, source {source}"
    if newest_s > now_s + SKEW_S:
        found += f"; data files are {newest_s - now_s:.0f} s younger than now"
    yield Finding(status=status, check="clock", found=found, advice=advice)


def _data_directories(patient: Patient) -> Iterator[Finding]:
    for path in patient.directories:
        yield from _data_directory(path)
    for path in patient.directories:
        found = _disk(path)
        several = len(patient.directories) > 1
        yield msgspec.structs.replace(found, found=f"{path}: {found.found}") if several else found


def _data_directory(path: str) -> Iterator[Finding]:
    check = "data directory"
    try:
        status = os.stat(path)
    except FileNotFoundError:
        yield _missing_directory(path)
        return
    except OSError as error:
        yield Finding(
            status=FAIL, check=check, found=f"{path}: {error.strerror}", advice="name another one with --data"
        )
        return
    if not stat.S_ISDIR(status.st_mode):
        yield Finding(
            status=FAIL, check=check, found=f"{path} is no directory", advice="name another one with --data"
        )
    elif not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        found = f"{path} belongs to user {status.st_uid} and is not writable by user {os.geteuid()}"
        yield Finding(
            status=FAIL, check=check, found=found, advice="change its owner, or name another one with --data"
        )
    elif status.st_mode & 0o077:
        found = f"{path} has mode {stat.S_IMODE(status.st_mode):04o}: others may look into it"
        yield Finding(status=WARN, check=check, found=found, advice=f"chmod 700 {path}")
    else:
        yield Finding(status=OK, check=check, found=path)


def _missing_directory(path: str) -> Finding:
    above = os.path.dirname(path)
    while not os.path.exists(above):
        above = os.path.dirname(above)
    if os.access(above, os.W_OK | os.X_OK):
        return Finding(status=OK, check="data directory", found=f"{path} will be made by `tailrace start`")
    advice = f"make {path} for this user, or name another one with --data"
    return Finding(status=FAIL, check="data directory", found=f"{above} is not writable", advice=advice)


def _disk(path: str) -> Finding:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    usage, kind = os.statvfs(path), _file_system(path)
    free, total = usage.f_bavail * usage.f_frsize, usage.f_blocks * usage.f_frsize
    status = _graded(
        free, DISK_FAIL_BYTES, max(DISK_WARN_BYTES, int(min(total, 100 << 30) * DISK_WARN_SHARE))
    )
    advice = "" if status == OK else "make room: on a full disk appends are refused until there is some"
    if usage.f_files and not usage.f_favail:
        status, advice = FAIL, "make room: no more files can be made (inodes)"
    elif kind.startswith(REMOTE_FILE_SYSTEMS) and status == OK:
        status, advice = (
            WARN,
            "use a local disk: locks and mapped files of network file systems are not relied on",
        )
    elif kind in ("tmpfs", "ramfs") and status == OK:
        status, advice = WARN, "fine for tests: it is memory, and gone when the machine is"
    return Finding(
        status=status, check="disk", found=f"{_size(free)} of {_size(total)} free ({kind})", advice=advice
    )


def _holder(patient: Patient) -> Iterator[Finding]:
    if patient.pid is not None:
        yield Finding(status=OK, check="lock", found=f"held by the broker, process {patient.pid}")
        yield from _broker(patient)
        return
    if any(map(_is_locked, patient.directories)):
        found = "held by a broker that is starting or stopping, or by another program"
        advice = "wait, or see who has it: lslocks"
        yield Finding(status=WARN, check="lock", found=found, advice=advice)
        return
    yield Finding(status=OK, check="lock", found="free: no broker runs on this data directory")
    for config in split(patient.config):
        for listener in config.listeners:
            yield _port(listener.host, listener.port)


def _is_locked(path: str) -> bool:
    try:
        lock_fd = os.open(os.path.join(path, ".lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock_fd)
    return False


def _broker(patient: Patient) -> Iterator[Finding]:
    shown: dict[str, Any] = patient.hooks.read_status(patient.data) or {}
    bootstrap = shown.get("bootstrap", "")
    try:
        with Cluster(bootstrap, timeout_s=ASK_TIMEOUT_S) as cluster:
            start_s = time.monotonic()
            topics = len(cluster.metadata(None).topics)
            spent_ms = (time.monotonic() - start_s) * 1000
    except (UnreachableError, KafkaError, ProtocolError) as error:
        advice = "see `tailrace status` and the broker's output; `tailrace stop`, then start it again"
        yield Finding(status=FAIL, check="broker", found=str(error), advice=advice)
    else:
        found = f"{bootstrap} answered in {spent_ms:.1f} ms; {topics} topics"
        yield Finding(status=OK, check="broker", found=found)
    for virtual in shown.get("brokers", []):
        if virtual["state"] != "ready":
            found = f"broker {virtual['node_id']} is {virtual['state']}: its partitions have no leader"
            advice = f"`tailrace broker start {virtual['node_id']}`"
            yield Finding(status=WARN, check="broker", found=found, advice=advice)
    processes = shown.get("processes", [])
    for log_dir in shown.get("log_dirs", []):
        if log_dir["failure"]:
            found = f"{log_dir['path']} is out of service: {log_dir['failure']}"
            advice = "mend that, then start the broker again: its partitions are offline until then"
            yield Finding(status=FAIL, check="log directory", found=found, advice=advice)
        elif log_dir["lacking_bytes"]:
            found = f"the disk of {log_dir['path']} is full but for its reserve: appends are refused"
            advice = f"free {_size(log_dir['lacking_bytes'])}: delete topics, records, or other files"
            yield Finding(status=FAIL, check="log directory", found=found, advice=advice)
    down = [f"{process['role']} {process['state']}" for process in processes if process["state"] != "ready"]
    offline = sum(part["offline"] for process in processes for part in process["partitions"])
    found = f"all {len(processes)} are ready"
    if down or offline:
        found = ", ".join([*down, *([f"{offline} partitions offline"] if offline else [])])
        advice = "see the broker's output; `tailrace status` names them"
        yield Finding(status=WARN, check="processes", found=found, advice=advice)
    else:
        yield Finding(status=OK, check="processes", found=found)


def _port(host: str, port: int) -> Finding:
    place = address_text(host, port)
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        advice = "stop who has it, or choose another with --port"
        return Finding(status=FAIL, check="port", found=f"{place}: {error.strerror}", advice=advice)
    return Finding(status=OK, check="port", found=f"{place} is free")


def _graded(value: int, fail_below: int, warn_below: int) -> str:
    if value < fail_below:
        return FAIL
    return WARN if value < warn_below else OK


def _size(count: int) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 10 * 1024 or unit == "GiB":
            return f"{count} {unit}"
        count //= 1024
    raise AssertionError("unreachable")


def _read(path: str) -> str:
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read().strip()
    return ""


def _newest_s(path: str) -> float:
    """When the youngest entry of a directory was changed; 0 if it cannot be read."""
    with suppress(OSError):
        return max((entry.stat().st_mtime for entry in os.scandir(path)), default=0.0)
    return 0.0


def _file_system(path: str) -> str:
    """The kind of file system a path lies on."""
    device, found = os.stat(path).st_dev, "unknown"
    name = f"{os.major(device)}:{os.minor(device)}"
    for line in _read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [name] and after:
            found = after.split()[0]
    return found


CHECKS: tuple[Callable[[Patient], Iterator[Finding]], ...] = (
    *(_platform, _kernel, _shared_memory, _leftovers, _open_files, _clock),
    *(_data_directories, _holder),
)
