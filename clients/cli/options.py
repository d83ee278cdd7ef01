"""Options that several commands share."""

import os
from collections.abc import Callable
from typing import Any

import click

from tailrace.clients.cluster import Cluster

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"

SECONDS_MAX = 1e9  # what the system's timers take, and more than anyone waits


class Seconds(click.FloatRange):
    """A number of seconds that can be waited for: neither nan nor inf."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """As click's, which lets nan through."""
        found: float = super().convert(value, param, ctx)
        if not found <= SECONDS_MAX:
            self.fail(f"{value} is no number of seconds up to {SECONDS_MAX:g}.", param, ctx)
        return found


bootstrap_option: Callable[..., Any] = click.option(
    "-b",
    "--bootstrap-server",
    "bootstrap",
    default=lambda: os.environ.get("BOOTSTRAP_SERVERS") or DEFAULT_BOOTSTRAP,
    show_default=f"$BOOTSTRAP_SERVERS or {DEFAULT_BOOTSTRAP}",
    metavar="HOST:PORT",
    help="Broker to ask; unix:PATH for a Unix socket.",
)
timeout_option: Callable[..., Any] = click.option(
    "--timeout",
    type=Seconds(min=0.001),
    default=30.0,
    show_default=True,
    help="Seconds to wait for an answer.",
)
output_option: Callable[..., Any] = click.option(
    "-o",
    "--output",
    "output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="For people, or for programs.",
)


def connect(bootstrap: str, timeout_s: float) -> Cluster:
    """A cluster that is known to be there."""
    cluster = Cluster(bootstrap, timeout_s=timeout_s)
    cluster.any_connection()
    return cluster


def client_properties(given: tuple[str, ...], known: dict[str, str]) -> dict[str, str]:
    """`-X KEY=VALUE` options under our own names; a usage error for a property that does nothing here."""
    settings: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"-X {text}: KEY=VALUE is expected")
        if name not in known:
            raise click.UsageError(f"-X {name}: not used here; known are {', '.join(known)}")
        settings[known[name]] = value
    return settings


def whole_number(settings: dict[str, str], name: str, default: int) -> int:
    """A setting that is a positive number."""
    text = settings.get(name, str(default))
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise click.UsageError(f"-X: {text!r} is no positive number")
    return int(text)
