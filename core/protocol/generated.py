"""Source text under construction: what the decoder's and the encoder's generators share."""

from struct import Struct as Layout
from typing import Any

from msgspec import Struct

from tailrace.core.protocol.schema import FIXED, Field, fields_of

# What generated functions call their own; a field of such a name gets a number behind it.
_RESERVED = (
    *("b", "p", "q", "end", "view", "room", "m", "out", "pieces", "error", "_", "len", "range", "bytearray"),
    *("uvarint", "uvarint_bytes", "read_int32s", "int32s_bytes", "cut_text"),
    *("skip_tags", "too_long", "too_many", "unsupported"),
)


class Text:
    """Lines of a function, the constants it refers to, and names not used yet."""

    def __init__(self, constants: dict[str, Any]) -> None:
        self.lines: list[str] = []
        self.constants = constants
        self.depth = 1
        self._used: dict[str, int] = dict.fromkeys(_RESERVED, 1)

    def line(self, code: str) -> None:
        """Add one line at the present depth."""
        self.lines.append("    " * self.depth + code)

    def name(self, wanted: str) -> str:
        """The wanted name of a local, with a number if it was given out before."""
        count = self._used[wanted] = self._used.get(wanted, 0) + 1
        return wanted if count == 1 else f"{wanted}_{count}"

    def constant(self, name: str, value: Any) -> str:
        """Make the value visible to the function; the name is returned."""
        held = self.constants.setdefault(name, value)
        if held is not value:
            return self.constant(name + "_", value)
        return name

    def struct_method(self, method: str, formats: list[str]) -> str:
        """The name of `pack` or `unpack_from` of a precompiled struct for the formats."""
        name = f"{method}_{''.join(formats).replace('?', 'o')}"
        if name not in self.constants:
            self.constants[name] = getattr(Layout(">" + "".join(formats)), method)
        return name


def size_of(formats: list[str]) -> int:
    """How many bytes a run of fixed formats takes."""
    return Layout(">" + "".join(formats)).size


def split_fields(cls: type[Struct], version: int) -> tuple[list[Field], list[Field]]:
    """The plain and the tagged fields that the version carries; tagged ones by number."""
    present = [field for field in fields_of(cls) if field.in_version(version)]
    tagged = sorted((field for field in present if field.tag >= 0), key=lambda field: field.tag)
    return [field for field in present if field.tag < 0], tagged


def smallest_size(field: Field, version: int, flexible: bool) -> int:
    """The fewest bytes a value of this field can take: what makes a claimed count believable."""
    if field.kind in FIXED:
        return FIXED[field.kind][1]
    if field.kind == "struct" and field.struct is not None:
        if field.null_since <= version:
            return 1
        plain = split_fields(field.struct, version)[0]
        return sum(smallest_size(part, version, flexible) for part in plain) + flexible
    if flexible:
        return 1
    return 2 if field.kind == "string" else 4
