"""The gateway process: its start and its end."""

from tailrace.workers.gateway.gateway import Gateway
from tailrace.workers.process import ProcessContext


def run(context: ProcessContext) -> None:
    """Serve clients until SIGTERM, then answer what is under way and stop."""
    gateway = Gateway(context)
    gateway.open()
    context.ready()
    gateway.serve()
    gateway.drain()
    gateway.close()
