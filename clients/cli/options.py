"""Options that several commands share."""

import os
from collections.abc import Callable
from typing import Any

import click

from tailrace.clients.cluster import Cluster

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"

bootstrap_option: Callable[..., Any] = click.option(
    "-b",
    "--bootstrap-server",
    "bootstrap",
    default=lambda: os.environ.get("BOOTSTRAP_SERVERS", DEFAULT_BOOTSTRAP),
    show_default=f"$BOOTSTRAP_SERVERS or {DEFAULT_BOOTSTRAP}",
    metavar="HOST:PORT",
    help="Broker to ask; unix:PATH for a Unix socket.",
)
timeout_option: Callable[..., Any] = click.option(
    "--timeout",
    type=click.FloatRange(min=0.001),
    default=30.0,
    show_default=True,
    help="Seconds to wait for an answer.",
)
output_option: Callable[..., Any] = click.option(
    "-o", "--output", "output", type=click.Choice(["table", "json"]), default="table", show_default=True
)


def connect(bootstrap: str, timeout_s: float) -> Cluster:
    """A cluster that is known to be there."""
    cluster = Cluster(bootstrap, timeout_s=timeout_s)
    cluster.any_connection()
    return cluster
