"""`tailrace produce`: records from stdin, split by a delimiter, or whole files; kcat's short flags."""

import os
import select
from collections.abc import Callable, Iterator
from typing import NamedTuple

import click

from tailrace.clients.cli.options import bootstrap_option, client_properties, connect, whole_number
from tailrace.clients.cli.texts import unescape
from tailrace.clients.cluster import Cluster
from tailrace.clients.producer import BATCH_BYTES, Producer
from tailrace.core.records.compression import CODEC_NAMES

STDIN = 0
CHUNK_BYTES = 1 << 18
PROPERTIES = {
    "acks": "acks",
    "request.required.acks": "acks",
    "compression.codec": "codec",
    "compression.type": "codec",
    "batch.size": "batch_bytes",
    "message.timeout.ms": "delivery_timeout_ms",
    "delivery.timeout.ms": "delivery_timeout_ms",
    "request.timeout.ms": "timeout_ms",
}


@click.command("produce")
@bootstrap_option
@click.option("-t", "--topic", required=True, metavar="TOPIC")
@click.option(
    "-p", "--partition", type=int, default=-1, help="-1, the default: by key, or spread in batches."
)
@click.option("-K", "key_delimiter", metavar="DELIM", help="Each record is KEY DELIM VALUE.")
@click.option("-D", "delimiter", metavar="DELIM", default="\\n", show_default=True, help="Between records.")
@click.option("-k", "fixed_key", metavar="KEY", help="Key of every record.")
@click.option("-H", "headers", multiple=True, metavar="NAME=VALUE", help="Header of every record.")
@click.option("-z", "codec", type=click.Choice(CODEC_NAMES), default=None, help="Compression.")
@click.option("-Z", "null_for_empty", is_flag=True, help="An empty value or key becomes NULL.")
@click.option("-c", "count", type=click.IntRange(1), default=None, help="Stop after so many records.")
@click.option("-l", "lines", is_flag=True, help="Files hold records split by -D, not one record each.")
@click.option("-X", "properties", multiple=True, metavar="KEY=VALUE", help="Client property, such as acks=1.")
@click.argument("files", nargs=-1, metavar="[FILE]...")
def command(
    bootstrap: str,
    topic: str,
    partition: int,
    key_delimiter: str | None,
    delimiter: str,
    fixed_key: str | None,
    headers: tuple[str, ...],
    codec: str | None,
    null_for_empty: bool,
    count: int | None,
    lines: bool,
    properties: tuple[str, ...],
    files: tuple[str, ...],
) -> None:
    """Send records from stdin, one a line, or from files, one a file.

    \b
    Example: printf 'k:v\\n' | tailrace produce -t orders -K :
    """
    settings = client_properties(properties, PROPERTIES)
    options = _producer_options(settings, codec)
    split_key = _key_splitter(key_delimiter, fixed_key)
    parsed_headers = tuple(_header(text) for text in headers)
    payloads = _payloads(files, lines, _delimiter("-D", delimiter))
    with (
        connect(bootstrap, whole_number(settings, "timeout_ms", 30_000) / 1000) as cluster,
        options.producer(cluster) as producer,
    ):
        cluster.topic(topic, create=True)
        sent = 0
        for payload in payloads:
            if payload is None:  # the input pauses: what we have goes out
                producer.flush()
                continue
            key, value = split_key(payload)
            producer.send(
                topic,
                None if null_for_empty and not value else value,
                key=None if null_for_empty and not key else key,
                headers=parsed_headers,
                partition=None if partition < 0 else partition,
            )
            sent += 1
            if sent == count:
                break


class _Options(NamedTuple):
    """What a producer is made with."""

    acks: int
    codec: str
    batch_bytes: int
    delivery_timeout_s: float

    def producer(self, cluster: Cluster) -> Producer:
        """A producer made with them."""
        return Producer(
            cluster,
            acks=self.acks,
            codec=self.codec,
            batch_bytes=self.batch_bytes,
            delivery_timeout_s=self.delivery_timeout_s,
        )


def _producer_options(settings: dict[str, str], codec: str | None) -> _Options:
    acks = settings.get("acks", "all")
    chosen = codec or settings.get("codec", "none")
    if acks not in ("all", "-1", "0", "1") or chosen not in CODEC_NAMES:
        raise click.UsageError(f"-X: acks is all, 0 or 1 and the codec one of {', '.join(CODEC_NAMES)}")
    return _Options(
        acks=-1 if acks == "all" else int(acks),
        codec=chosen,
        batch_bytes=whole_number(settings, "batch_bytes", BATCH_BYTES),
        delivery_timeout_s=whole_number(settings, "delivery_timeout_ms", 120_000) / 1000,
    )


def _delimiter(option: str, text: str) -> bytes:
    try:
        delimiter = unescape(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from error
    if not delimiter:
        raise click.UsageError(f"{option}: the delimiter is empty")
    return delimiter


def _key_splitter(
    delimiter: str | None, fixed_key: str | None
) -> Callable[[bytes], tuple[bytes | None, bytes]]:
    """How a payload becomes key and value; without the delimiter in it there is no key, as in kcat."""
    fixed = None if fixed_key is None else fixed_key.encode("utf-8", "surrogateescape")
    if delimiter is None:
        return lambda payload: (fixed, payload)
    between = _delimiter("-K", delimiter)

    def split(payload: bytes) -> tuple[bytes | None, bytes]:
        key, found, value = payload.partition(between)
        return (key, value) if found else (fixed, payload)

    return split


def _header(text: str) -> tuple[str, bytes | None]:
    """NAME=VALUE; NAME alone has the value NULL, as in kcat."""
    name, equals, value = text.partition("=")
    return name, value.encode("utf-8", "surrogateescape") if equals else None


def _payloads(files: tuple[str, ...], lines: bool, delimiter: bytes) -> Iterator[bytes | None]:
    if not files:
        yield from _split(STDIN, delimiter)
    for path in files:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if lines:
                yield from _split(descriptor, delimiter)
            else:
                yield b"".join(iter(lambda: os.read(descriptor, CHUNK_BYTES), b""))  # noqa: B023 - used at once
        except IsADirectoryError as error:
            error.filename = path
            raise
        finally:
            os.close(descriptor)


def _split(descriptor: int, delimiter: bytes) -> Iterator[bytes | None]:
    """Records between delimiters; None where the input pauses. The last needs no delimiter behind it."""
    rest = b""
    while chunk := os.read(descriptor, CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(delimiter)
        yield from whole
        if not select.select([descriptor], [], [], 0)[0]:
            yield None
    if rest:
        yield rest
