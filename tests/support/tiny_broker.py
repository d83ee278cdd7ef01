"""A broker whose gateway, controller and workers do nothing but live and die as told: for tests of the
supervisor.

    python -m tests.support.tiny_broker DATA RUN_BASE [key=value]...

Behaviour by environment: TINY_WORKERS how many workers the controller asks for, TINY_REFUSE a sentence with
which the gateway refuses to start, TINY_DEAF a role that ignores SIGTERM, TINY_CRASH a role that ends at once
with status 70.
"""

import os
import signal
import sys

from tailrace.core.config import load
from tailrace.shm.slots import CONTROLLER, GATEWAY, HOUSEKEEPER, WORKER, role_name
from tailrace.workers import housekeeper, supervisor
from tailrace.workers.control import WantWorker
from tailrace.workers.process import FIRST_WORKER_SLOT, SUPERVISOR_SLOT, ProcessContext, Refusal


def _note(context: ProcessContext, what: str) -> None:
    """One line a life's event, in the order in which they happen."""
    path = os.path.join(context.data_dir, ".events")
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
        context.wait(3600.0)
    _note(context, "stopped")


def _gateway(context: ProcessContext) -> None:
    refusal = os.environ.get("TINY_REFUSE")
    if refusal:
        raise Refusal(refusal)
    context.publish_addresses("127.0.0.1:1", "/nowhere")
    _live(context)


def _controller(context: ProcessContext) -> None:
    for index in range(int(os.environ.get("TINY_WORKERS", "1"))):
        context.outbox.send(SUPERVISOR_SLOT, WantWorker(slot=FIRST_WORKER_SLOT + index))
    context.outbox.flush()
    _live(context)


def _housekeeper(context: ProcessContext) -> None:
    housekeeper.run(context)
    _note(context, "stopped")


if __name__ == "__main__":
    overrides = dict(pair.split("=", 1) for pair in sys.argv[3:])
    config, _ = load({"log.dirs": sys.argv[1], "run.dir": sys.argv[2], "workers.max": "4", **overrides})
    sys.exit(
        supervisor.run(
            config, {CONTROLLER: _controller, GATEWAY: _gateway, HOUSEKEEPER: _housekeeper, WORKER: _live}
        )
    )
