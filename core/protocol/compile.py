"""A message class and a version in, its decoder or encoder out; generated on first use and kept.

The generated text is shown in tracebacks (linecache asks the functions' globals for it, so linecache need not
be imported) and by `source_of`.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from msgspec import Struct

from tailrace.core.protocol.decoding import decoder_source
from tailrace.core.protocol.encoding import encoder_source
from tailrace.core.protocol.primitives import Source
from tailrace.core.protocol.schema import FACTS

M = TypeVar("M", bound=Struct)

Decoder = Callable[
    [Source, int, int, memoryview], M
]  # (buffer, position, end, view of the buffer for records)
Encoder = Callable[[M], list[Any]]  # pieces: bytearrays and, for records, the objects given

_decoders: dict[tuple[type[Struct], int], Callable[..., Any]] = {}
_encoders: dict[tuple[type[Struct], int], Callable[..., Any]] = {}


class _Loader:
    """Answers linecache's question for the text behind a generated function."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_source(self, _name: str) -> str:
        """The whole generated text."""
        return self.text


def decoder(cls: type[M], version: int) -> Decoder[M]:
    """The function that decodes this version; it raises ProtocolError alone.

    Bytes after the message are ignored, as Kafka does.
    """
    known = _decoders.get((cls, version))
    if known is None:
        known = _decoders[cls, version] = _compile(cls, version, "decode")
    return cast("Decoder[M]", known)  # quoted: a generic alias costs 3 us to build


def encoder(cls: type[M], version: int) -> Encoder[M]:
    """The function that encodes this version: ProtocolError for a value of a wrong type or size, KafkaError
    (UNSUPPORTED_VERSION) for a value that the version cannot carry."""
    known = _encoders.get((cls, version))
    if known is None:
        known = _encoders[cls, version] = _compile(cls, version, "encode")
    return cast("Encoder[M]", known)


def source_of(cls: type[Struct], version: int, direction: str) -> str:
    """The text generated for a message version; direction is `decode` or `encode`."""
    return _source(cls, version, direction, {})


def decode(cls: type[M], version: int, data: bytes) -> M:
    """Decode a whole body."""
    return decoder(cls, version)(data, 0, len(data), memoryview(data))


def encode(message: Struct, version: int) -> bytes:
    """Encode a body into one bytes object, records copied."""
    return b"".join(encoder(type(message), version)(message))


def _source(cls: type[Struct], version: int, direction: str, constants: dict[str, Any]) -> str:
    facts = FACTS.get(cls)
    if facts is None or not facts.first <= version <= facts.last:
        raise ValueError(f"{cls.__name__} has no version {version}")
    write = decoder_source if direction == "decode" else encoder_source
    return write(cls, version, version >= facts.flexible, constants)


def _compile(cls: type[Struct], version: int, direction: str) -> Callable[..., Any]:
    constants: dict[str, Any] = {"__name__": f"tailrace.generated.{cls.__name__}"}
    text = _source(cls, version, direction, constants)
    constants["__loader__"] = _Loader(text)
    exec(compile(text, f"generated/{cls.__name__}.v{version}.{direction}", "exec"), constants)
    return cast("Callable[..., Any]", constants[direction])
