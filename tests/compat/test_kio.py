"""Bytes against kio, generated from Kafka's definitions: what we write it reads, and the reverse."""

import warnings
from importlib import import_module
from random import Random
from typing import Any

import pytest
from msgspec import Struct

from tailrace.core import errors
from tailrace.core.protocol.apis import DECLARED
from tailrace.core.protocol.compile import decode, encode
from tailrace.core.protocol.frames import parse_response_header, request_frame, response_frame
from tailrace.core.protocol.schema import Field, fields_of
from tests.support.messages import (
    consumer_messages,
    random_message,
    requests_and_responses,
    snake_case,
    version_id,
    versions_of,
)

kio_serial = pytest.importorskip("kio.serial", reason="kio is not installed")

MESSAGES = versions_of([*requests_and_responses(), *consumer_messages()])  # kio knows no records of topics
MILLIS_MAX = 2**40  # kio makes dates and durations of these fields, which cannot be any number


def kio_class(cls: type[Struct], version: int) -> Any:
    """kio's class for this version of the message."""
    if cls in consumer_messages():
        module, kind = snake_case(cls.__name__), "data"
    else:
        module = cls.__module__.rpartition(".")[2]
        kind = "request" if cls.__name__.endswith("Request") else "response"
    return getattr(import_module(f"kio.schema.{module}.v{version}.{kind}"), cls.__name__)


def plausible(message: Any, version: int, random: Random) -> Any:
    """The message with error codes that exist, and times that a calendar holds."""
    for field in fields_of(message.__class__):
        value = getattr(message, field.name)
        if not field.in_version(version) or value is None:
            continue
        if field.name.endswith("error_code"):
            setattr(message, field.name, random.choice((0, -1, 3, 133)))
        elif field.kind in ("int32", "int64") and _is_time(field):
            setattr(message, field.name, value % (MILLIS_MAX if field.kind == "int64" else 2**31))
        elif field.kind == "struct":
            plausible(value, version, random)
        elif field.item is not None and field.item.kind == "struct":
            for item in value:
                plausible(item, version, random)
    return message


def _is_time(field: Field) -> bool:
    return field.name.endswith(("_ms", "timestamp"))


@pytest.mark.parametrize(("cls", "version"), MESSAGES, ids=version_id)
def test_kio_reads_what_we_write_and_we_what_it_writes(cls: type[Struct], version: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs = kio_class(cls, version)
        read, write = kio_serial.entity_reader(theirs), kio_serial.entity_writer(theirs)
    for seed in range(15):
        random = Random(seed)
        message = plausible(random_message(cls, version, random), version, random)
        data = encode(message, version)
        entity, size = read(data, 0)
        assert size == len(data), f"seed {seed}"
        sink = bytearray()
        write(_Sink(sink), entity)
        assert bytes(sink) == data, f"seed {seed}"
        assert decode(cls, version, bytes(sink)) == message, f"seed {seed}"


class _Sink:
    """The least that kio writes to."""

    def __init__(self, out: bytearray) -> None:
        self.write = out.extend


@pytest.mark.parametrize("key", DECLARED)
def test_headers_agree_with_kio(key: int) -> None:
    api = DECLARED[key]
    for version in range(api.min_decodable, api.max_version + 1):
        header = kio_class(api.request, version).__header_schema__
        frame = b"".join(request_frame(api, version, 77, "tester", [bytearray(b"body")]))
        entity, size = kio_serial.entity_reader(header)(frame, 4)
        assert (entity.request_api_key, entity.request_api_version) == (key, version)
        assert (entity.correlation_id, entity.client_id) == (77, "tester")
        assert frame[4 + size :] == b"body"

        reply_header = kio_class(api.response, version).__header_schema__
        header_version = api.response_header_version(version)
        assert reply_header.__version__ == header_version
        reply = b"".join(response_frame(78, header_version, [bytearray(b"body")]))
        entity, size = kio_serial.entity_reader(reply_header)(reply, 4)
        assert entity.correlation_id == 78
        assert parse_response_header(reply, 4, len(reply), header_version) == (78, 4 + size)


def test_error_codes_are_those_of_kio() -> None:
    codes = import_module("kio.schema.errors").ErrorCode
    ours = {
        value: name.lower() for name, value in vars(errors).items() if name.isupper() and type(value) is int
    }
    assert ours == {code.value: code.name for code in codes}
    assert {code for code in ours if errors.is_retriable(code)} == {
        code.value for code in codes if code.retriable
    }
