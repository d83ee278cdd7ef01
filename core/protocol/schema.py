"""How a message of the Kafka protocol is declared: wire types, version ranges, tags.

A message is one `Struct` class for all its versions. Every field has a default, stands in wire order, and
carries its wire facts in `Annotated`; type checkers see plain `int`, `str`, `bytes` and `list`:

    class FetchTopic(Struct, gc=False):
        topic: Annotated[String, upto(12), IGNORABLE] = ""
        topic_id: Annotated[Uuid, since(13), IGNORABLE] = NO_ID
        partitions: list[FetchPartition] = []

    @message(versions=(4, 18), flexible=12)
    class FetchRequest(Struct, gc=False): ...

Rules: versions are inclusive; a field outside a version decodes to its default; encoding a value that the
version cannot carry is dropped if `IGNORABLE`, else refused. `X | None` may be null on the wire (from
`nullable(version)` on, if given), except a tagged struct, where None means absent: one that may be null on
the wire says `nullable(version)`, and absent is its default then. Generated code calls constructors by
position. `gc=False`: a message is never part of a reference cycle, so the collector need not look at it.
"""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_args

from msgspec import Struct

NO_ID = bytes(16)  # the uuid of nothing
NEWEST = 32767
NEVER = NEWEST + 1  # as the first flexible version: there is none


class Wire(Struct, frozen=True):
    """The wire type of a value."""

    kind: str


class Versions(Struct, frozen=True):
    """The versions that carry a field."""

    first: int
    last: int


class Nullable(Struct, frozen=True):
    """The first version in which a field may be null."""

    since: int


class Tag(Struct, frozen=True):
    """The number of a tagged field; it is tagged in every version that carries it."""

    number: int


class Mark(Struct, frozen=True):
    """A plain mark, such as IGNORABLE."""

    name: str


IGNORABLE = Mark("ignorable")  # versions without the field drop its value when encoding


def since(first: int) -> Versions:
    """The field is carried from this version on."""
    return Versions(first, NEWEST)


def upto(last: int) -> Versions:
    """The field is carried up to this version."""
    return Versions(0, last)


def between(first: int, last: int) -> Versions:
    """The field is carried by these versions."""
    return Versions(first, last)


def nullable(first: int) -> Nullable:
    """The field may be null from this version on."""
    return Nullable(first)


def tag(number: int) -> Tag:
    """The field is tagged."""
    return Tag(number)


Bool = Annotated[bool, Wire("bool")]
Int8 = Annotated[int, Wire("int8")]
Int16 = Annotated[int, Wire("int16")]
Uint16 = Annotated[int, Wire("uint16")]
Int32 = Annotated[int, Wire("int32")]
Int64 = Annotated[int, Wire("int64")]
Float64 = Annotated[float, Wire("float64")]
Uuid = Annotated[bytes, Wire("uuid")]
String = Annotated[str, Wire("string")]
NullableString = Annotated[str | None, Wire("string")]
Bytes = Annotated[bytes, Wire("bytes")]
NullableBytes = Annotated[bytes | None, Wire("bytes")]
Records = Annotated[
    Any, Wire("records")
]  # decoded: memoryview or None; encoded: anything with a length, or None

FIXED = {  # wire type -> (struct format, bytes)
    "bool": ("?", 1),
    "int8": ("b", 1),
    "int16": ("h", 2),
    "uint16": ("H", 2),
    "int32": ("i", 4),
    "int64": ("q", 8),
    "float64": ("d", 8),
    "uuid": ("16s", 16),
}


class Field(Struct, frozen=True):
    """One field of a message, or (name "") the element of an array."""

    name: str
    kind: str  # a key of FIXED, or string, bytes, records, struct, array
    default: Any
    first: int = 0
    last: int = NEWEST
    null_since: int = NEWEST + 1
    tag: int = -1
    ignorable: bool = False
    item: "Field | None" = None  # of an array
    struct: type[Struct] | None = None  # of a struct

    def in_version(self, version: int) -> bool:
        """Whether the version carries the field."""
        return self.first <= version <= self.last


class Facts(Struct, frozen=True):
    """What holds for a whole message: the versions it has, and the first flexible one."""

    first: int
    last: int
    flexible: int


FACTS: dict[type[Struct], Facts] = {}
_fields: dict[type[Struct], tuple[Field, ...]] = {}

M = TypeVar("M", bound=Struct)


def message(*, versions: tuple[int, int], flexible: int) -> Callable[[type[M]], type[M]]:
    """Declare the class a whole message (a request, a response, a header) with these versions."""

    def declare(cls: type[M]) -> type[M]:
        FACTS[cls] = Facts(versions[0], versions[1], flexible)
        return cls

    return declare


def fields_of(cls: type[Struct]) -> tuple[Field, ...]:
    """The fields of a message or a part of one, in wire order."""
    known = _fields.get(cls)
    if known is None:
        sample = cls()
        hints: dict[str, Any] = cls.__annotations__
        known = tuple(_field(name, hint, getattr(sample, name)) for name, hint in hints.items())
        _fields[cls] = known
    return known


def _field(name: str, hint: Any, default: Any) -> Field:
    kind, item, struct = "", None, None
    first, last, null_since, number, ignorable = 0, NEWEST, NEWEST + 1, -1, False
    base = hint
    if marks := getattr(hint, "__metadata__", ()):
        base = get_args(hint)[0]
        for mark in marks:
            if isinstance(mark, Wire):
                kind = mark.kind
            elif isinstance(mark, Versions):
                first, last = mark.first, mark.last
            elif isinstance(mark, Nullable):
                null_since = mark.since
            elif isinstance(mark, Tag):
                number = mark.number
            else:
                ignorable = mark is IGNORABLE
    options = get_args(base)
    if type(None) in options:
        base = next(option for option in options if option is not type(None))
        if null_since > NEWEST and (number < 0 or kind or not _is_struct(base)):
            null_since = first
    if kind == "records":
        null_since = first
    elif kind == "":
        kind, item, struct = _composite(name, base)
    return Field(name, kind, default, first, last, null_since, number, ignorable, item, struct)


def _composite(name: str, base: Any) -> tuple[str, Field | None, type[Struct] | None]:
    if getattr(base, "__origin__", None) is list:
        return "array", _field("", get_args(base)[0], None), None
    if _is_struct(base):
        return "struct", None, base
    raise TypeError(f"field {name or 'of an array'}: {base!r} is not a wire type")


def _is_struct(base: Any) -> bool:
    return isinstance(base, type) and issubclass(base, Struct)
