"""Be the supervisor of a broker, or of several: what is made before the first fork and is gone at the end."""

import gc
import os
import resource
import signal

import setproctitle

from tailrace.core.config import BrokerConfig
from tailrace.shm.doorbell import make_eventfd
from tailrace.shm.links import HeadTable
from tailrace.shm.log_dir_table import log_dirs_name
from tailrace.shm.names import BASE, RunDir, sweep
from tailrace.shm.region import ShmError, require_x86_64
from tailrace.shm.slots import READY, SUPERVISOR, SUPERVISOR_SLOT, Layout, SlotTable
from tailrace.shm.state_table import StateTable
from tailrace.shm.waiters import WaiterTable
from tailrace.workers.addresses import Addresses
from tailrace.workers.data_dir import BrokerInfo, DataDirError, RunInfo
from tailrace.workers.data_dirs import HostDirs
from tailrace.workers.process import STOP_SIGNALS, Broker, Roles, Shared
from tailrace.workers.say import say
from tailrace.workers.supervisor import StartError, Supervisor


def run(config: BrokerConfig, roles: Roles | None = None) -> int:
    """Be a broker until a signal comes. Returns the exit status; errors of the start are one line on
    stderr.
    """
    _raise_descriptor_limit()
    try:
        require_x86_64()
        host_dirs = HostDirs(config)
        base = config.run_dir or BASE
        sweep(base)
        run_dir = RunDir.create(base)
    except (StartError, DataDirError, ShmError) as error:
        say(f"tailrace: {error}\n")
        return 1
    try:
        if roles is None:
            from tailrace.workers.roles import (
                ROLES,
            )  # all that the children need, once, before the first fork

            roles = ROLES
        return _run_locked(config, host_dirs, run_dir, roles)
    except ShmError as error:
        say(f"tailrace: {error}\n")
        return 1
    finally:
        run_dir.remove()
        host_dirs.clear_info()


def _raise_descriptor_limit() -> None:
    """As many descriptors as a process may have: each client, log file and ring takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run_locked(config: BrokerConfig, host_dirs: HostDirs, run_dir: RunDir, roles: Roles) -> int:
    shared = _make_shared(config, host_dirs, run_dir)
    wake_fd = _make_wake_pipe()
    supervisor = Supervisor(shared, roles, wake_fd)
    for signum in STOP_SIGNALS:
        signal.signal(signum, supervisor.on_signal)
    setproctitle.setproctitle("tailrace: supervisor")
    gc.collect()
    gc.freeze()  # the children share these pages: no collection of theirs shall write to them

    def announce(addresses: list[Addresses]) -> None:
        info = _run_info(config, host_dirs, run_dir, addresses)
        host_dirs.write_info(info)
        line = f"ready bootstrap={info.bootstrap} unix={info.unix} data={','.join(host_dirs.shown())}\n"
        try:
            os.write(1, line.encode())  # not through sys.stdout, which would try again at exit
        except OSError as error:
            raise StartError(f"cannot write the line that says ready to stdout: {error.strerror}") from error

    status = 0
    try:
        supervisor.serve(announce)
    except StartError as error:
        if str(error):
            say(f"tailrace: {error}\n")
        status = 1
    finally:
        supervisor.stop()
    return status


def _run_info(
    config: BrokerConfig, host_dirs: HostDirs, run_dir: RunDir, addresses: list[Addresses]
) -> RunInfo:
    brokers = [
        BrokerInfo(
            node_id=dirs.config.node_id,
            bootstrap=one.bootstrap,
            unix=one.unix,
            log_dirs=dirs.all_paths,
        )
        for dirs, one in zip(host_dirs.brokers, addresses, strict=True)
    ]
    return RunInfo(
        pid=os.getpid(),
        run_dir=run_dir.path,
        bootstrap=",".join(broker.bootstrap for broker in brokers),
        unix=",".join(broker.unix for broker in brokers),
        brokers=tuple(brokers),
        flush_policy=config.flush_policy,
        disk_reserve_bytes=config.disk_reserve_bytes,
    )


def _make_shared(config: BrokerConfig, host_dirs: HostDirs, run_dir: RunDir) -> Shared:
    """The regions and the eventfds, before the first fork."""
    layout = Layout(config.brokers, max(1, config.workers_max // config.brokers))
    slots = SlotTable.create(run_dir.file("slots"), layout.slot_count)
    slots.begin(SUPERVISOR_SLOT, SUPERVISOR, 0, 0)
    slots.set_pid(SUPERVISOR_SLOT, os.getpid())
    slots.set_state(SUPERVISOR_SLOT, READY)
    state_table = StateTable.create(run_dir.file("state"))
    return Shared(
        brokers=[
            Broker(dirs.config, dirs.share(run_dir.file(log_dirs_name(index))))
            for index, dirs in enumerate(host_dirs.brokers)
        ],
        layout=layout,
        cluster_id=host_dirs.cluster_id,
        run_dir=run_dir.path,
        slots=slots,
        state_table=state_table,
        waiters=WaiterTable.create(run_dir.file("waiters"), state_table.rows),
        heads=HeadTable.create(run_dir.file("heads"), layout.slot_count),
        eventfds=tuple(make_eventfd() for _ in range(layout.slot_count)),
    )


def _make_wake_pipe() -> int:
    """Signals write a byte to it, so that one which comes just before a wait ends the wait. Returns the end
    to read.
    """
    read_fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    return read_fd
