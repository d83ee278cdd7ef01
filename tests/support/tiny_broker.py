"""A broker whose gateway, controller and workers do nothing but live and die as told: for tests of the
supervisor.

    python -m tests.support.tiny_broker DATA RUN_BASE [key=value]...

Behaviour by environment: TINY_WORKERS how many workers the controller asks for, TINY_REFUSE a sentence with
which the gateway refuses to start, TINY_DEAF a role that ignores SIGTERM, TINY_CRASH a role that ends at once
with status 70, TINY_FORKS_FAIL how many forks fail after the first three, as for want of processes.

On its way down a process sees that those who stop after it still serve: it waits for a turn of theirs.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable
from unittest import mock

from tailrace.core.config import load
from tailrace.shm.slots import CONTROLLER, GATEWAY, HOUSEKEEPER, SUPERVISOR_SLOT, WORKER, Layout, role_name
from tailrace.workers import housekeeper, run
from tailrace.workers.addresses import Addresses, publish_addresses
from tailrace.workers.control import Hello, WantWorker
from tailrace.workers.process import ProcessContext, Refusal

FIRST_WORKER_SLOT = Layout().workers(0)[0]
STOPPED_AFTER = {GATEWAY: (FIRST_WORKER_SLOT, Layout.controller(0)), WORKER: (Layout.controller(0),)}


def _note(context: ProcessContext, what: str) -> None:
    """One line a life's event, in the order in which they happen."""
    path = os.path.join(context.log_dirs.metadata_dir, ".events")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{role_name(context.slots.role(context.slot))} {context.index} {what}\n".encode())
    os.close(descriptor)


def _live(context: ProcessContext) -> None:
    name = role_name(context.slots.role(context.slot))
    if os.environ.get("TINY_CRASH") == name:
        os._exit(70)
    if os.environ.get("TINY_DEAF") == name:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    context.ready()
    while not context.stopping:
        for slot, incarnation, ring in context.links.poll():
            context.inbox.read(slot, incarnation, ring)  # type: ignore[arg-type]
        context.links.drop_dead()
        context.slots.add_progress(context.slot)
        context.wait(3600.0)
    _see_serving(context, STOPPED_AFTER.get(context.slots.role(context.slot), ()))
    _note(context, "stopped")


def _see_serving(context: ProcessContext, peers: tuple[int, ...]) -> None:
    """Wait for a turn of each: one that was told to stop takes no more, and the broker does not stop."""
    slots = context.slots
    for peer in peers:
        incarnation, before = slots.live_incarnation(peer), slots.progress(peer)
        while (
            incarnation and slots.live_incarnation(peer) == incarnation and slots.progress(peer) < before + 2
        ):
            context.outbox.send(peer, Hello())
            context.outbox.flush()
            os.sched_yield()


def _gateway(context: ProcessContext) -> None:
    refusal = os.environ.get("TINY_REFUSE")
    if refusal:
        raise Refusal(refusal)
    publish_addresses(context.run_dir, context.broker, Addresses("127.0.0.1:1", "/nowhere"))
    _live(context)


def _controller(context: ProcessContext) -> None:
    context.slots.set_active_epoch(context.slot, 1)
    for index in range(int(os.environ.get("TINY_WORKERS", "1"))):
        context.outbox.send(SUPERVISOR_SLOT, WantWorker(slot=FIRST_WORKER_SLOT + index))
    context.outbox.flush()
    _live(context)


def _housekeeper(context: ProcessContext) -> None:
    housekeeper.run(context)
    _note(context, "stopped")


def _failing_forks(count: int) -> Callable[[], int]:
    """os.fork, of which the fourth call and so many after it fail."""
    outcomes = iter([False] * 3 + [True] * count)
    real = os.fork

    def fork() -> int:
        if next(outcomes, False):
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return real()

    return fork


if __name__ == "__main__":
    overrides = dict(pair.split("=", 1) for pair in sys.argv[3:])
    config, _ = load({"log.dirs": sys.argv[1], "run.dir": sys.argv[2], "workers.max": "4", **overrides})
    roles = {CONTROLLER: _controller, GATEWAY: _gateway, HOUSEKEEPER: _housekeeper, WORKER: _live}
    with mock.patch("os.fork", _failing_forks(int(os.environ.get("TINY_FORKS_FAIL", "0")))):
        sys.exit(run.run(config, roles))
