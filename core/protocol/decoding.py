"""Writes the decoder of one message version as straight-line Python.

Shape of the result: runs of fixed fields are read by one precompiled Struct, and the byte after them (the
first of a varint, or a whole classic length) joins the run. Parts are inlined as loops. `b` is the buffer,
`p` the position. Bounds: every length and count is compared with what is left before `end` before anything is
sliced or looped over; fixed fields may be read from behind `end`, which the comparison of the last line finds
out. Thus a count of 2^31 costs nothing, whatever lies behind `end`. A request may hold ENTRIES_MAX entries in
all: `room` is what is left of them.
"""

from typing import Any

from msgspec import Struct

from tailrace.core.errors import ProtocolError
from tailrace.core.protocol import primitives
from tailrace.core.protocol.generated import Text, size_of, smallest_size, split_fields
from tailrace.core.protocol.schema import FIXED, Field, fields_of

_COUNT_FORMATS = {"string": "h", "bytes": "i", "records": "i", "array": "i"}


def decoder_source(cls: type[Struct], version: int, flexible: bool, constants: dict[str, Any]) -> str:
    """The text of `decode(b, p, end, view)`; what it refers to is added to constants."""
    constants.update(
        uvarint=primitives.uvarint,
        read_int32s=primitives.read_int32s,
        skip_tags=primitives.skip_tags,
        too_long=primitives.too_long,
        too_many=primitives.too_many,
        ProtocolError=ProtocolError,
        MALFORMED=primitives.MALFORMED,
    )
    text = Text(constants)
    text.line("try:")
    text.depth += 1
    writer = _Decoding(text, version, flexible, bounded=cls.__name__.endswith("Request"))
    if writer.bounded:
        text.line(f"room = {primitives.ENTRIES_MAX}")
    built = writer.message(cls)
    text.line("if p > end:")
    text.line("    raise too_long('the message', p, end)")
    text.line(f"return {built}")
    text.depth -= 1
    text.line("except MALFORMED as error:")
    text.line(f"    raise ProtocolError(f'{cls.__name__} version {version}: {{error}}') from error")
    return "\n".join(("def decode(b, p, end, view):", *text.lines, ""))


class _Decoding:
    def __init__(self, text: Text, version: int, flexible: bool, *, bounded: bool) -> None:
        self.text = text
        self.version = version
        self.flexible = flexible
        self.bounded = bounded  # answers are not: who asks for more than that shall get it
        self.run: list[tuple[str, str]] = []  # formats and the locals they fill, not read yet

    def message(self, cls: type[Struct]) -> str:
        """Write code that reads the parts of a message; returns the expression that builds it."""
        plain, tagged = split_fields(cls, self.version)
        locals_ = {field.name: self.value(field) for field in plain}
        if self.flexible:
            locals_ |= self.tagged_fields(tagged)
        self.flush()
        arguments: list[str] = []
        kept = 0  # arguments behind the last one that was read are left to their defaults
        for field in fields_of(cls):
            if field.name in locals_:
                arguments.append(locals_[field.name])
                kept = len(arguments)
            else:
                arguments.append(self.default(field))
        return f"{self.text.constant(cls.__name__, cls)}({', '.join(arguments[:kept])})"

    def default(self, field: Field) -> str:
        """The expression of a field's default."""
        if isinstance(field.default, Struct):
            return f"{self.text.constant(type(field.default).__name__, type(field.default))}()"
        return repr(field.default)

    def value(self, field: Field) -> str:
        """Write code that reads a field; returns its local."""
        if field.kind in FIXED:
            local = self.text.name(field.name or "item")
            self.run.append((FIXED[field.kind][0], local))
            return local
        if field.kind == "struct":
            return self.struct(field)
        return self.counted(field)

    def flush(self) -> None:
        """Write the read of the fixed fields that wait."""
        run, self.run = self.run, []
        if not run:
            return
        formats = [format_ for format_, _ in run]
        if formats == ["B"]:
            self.text.line(f"{run[0][1]} = b[p]")
        else:
            method = self.text.struct_method("unpack_from", formats)
            targets = ", ".join(target for _, target in run) + ("," if len(run) == 1 else "")
            self.text.line(f"{targets} = {method}(b, p)")
        self.text.line(f"p += {size_of(formats)}")

    def struct(self, field: Field) -> str:
        assert field.struct is not None
        if field.null_since > self.version:
            self.flush()  # keeps the order of reads if the struct begins with a tag count
            return self.message(field.struct)
        local, mark = self.text.name(field.name or "item"), self.text.name("mark")
        if field.tag < 0:
            self.run.append(("b", mark))
            self.flush()
        else:  # where null is 0, not -1
            self.text.line(f"{mark}, p = uvarint(b, p)")
        self.text.line(f"{local} = None")
        self.text.line(f"if {mark} {'>=' if field.tag < 0 else '>'} 0:")
        self.text.depth += 1
        self.text.line(f"{local} = {self.message(field.struct)}")
        self.text.depth -= 1
        return local

    def counted(self, field: Field) -> str:
        """A string, bytes, records or an array: a length or count, then what it counts."""
        text, label = self.text, field.name or "item"
        local, count = text.name(label), text.name("n")
        self.run.append(("B" if self.flexible else _COUNT_FORMATS[field.kind], count))
        self.flush()
        if self.flexible:
            text.line(f"if {count} > 127:")
            text.line(f"    {count}, p = uvarint(b, p - 1)")
            if field.kind == "string":  # (R) what is longer fits no record, and no older version
                text.line(f"    if {count} > {primitives.STRING_BYTES_MAX + 1}:")
                text.line(f"        raise ProtocolError(f'{label} is a string of {{{count} - 1}} bytes')")
            text.line(f"{count} -= 1")
        may_be_null = field.null_since <= self.version
        if may_be_null:
            text.line(f"if {count} < 0:")
            text.line(f"    {local} = None")
            text.line("else:")
            text.depth += 1
        if field.kind == "array":
            self.array(field, local, count)
        else:
            text.line(f"q = p + {count}")
            text.line("if not p <= q <= end:" if not may_be_null else "if q > end:")
            text.line(f"    raise too_long('{label}', {count}, end - p)")
            reading = {"string": "b[p:q].decode()", "bytes": "b[p:q]", "records": "view[p:q]"}[field.kind]
            text.line(f"{local} = {reading}")
            text.line("p = q")
        if may_be_null:
            text.depth -= 1
        return local

    def array(self, field: Field, local: str, count: str) -> None:
        text, item = self.text, field.item
        assert item is not None
        size = smallest_size(item, self.version, self.flexible)
        text.line(
            f"if not 0 <= {count} * {size} <= end - p:" if size > 1 else f"if not 0 <= {count} <= end - p:"
        )
        text.line(f"    raise too_long('{field.name}', {count}, end - p)")
        self.take_room(count)
        if item.kind == "int32":
            text.line(f"{local} = read_int32s(b, p, {count})")
            text.line(f"p += 4 * {count}")
            return
        text.line(f"{local} = []")
        text.line(f"for _ in range({count}):")
        text.depth += 1
        built = self.value(item)
        self.flush()
        text.line(f"{local}.append({built})")
        text.depth -= 1

    def take_room(self, count: str) -> None:
        """(R) An entry of one byte may cost microseconds, here and in its handler; others wait meanwhile."""
        if self.bounded:
            self.text.line(f"room -= {count}")
            self.text.line("if room < 0:")
            self.text.line("    raise too_many()")

    def tagged_fields(self, tagged: list[Field]) -> dict[str, str]:
        """The closing section of a flexible part. Unknown tags are skipped."""
        text = self.text
        count = text.name("tags")
        self.run.append(("B", count))
        self.flush()
        locals_ = {field.name: text.name(field.name) for field in tagged}
        for field in tagged:
            text.line(f"{locals_[field.name]} = {self.default(field)}")
        text.line(f"if {count}:")
        text.depth += 1
        self.take_room(count)
        if tagged:
            self._known_tags(tagged, locals_, count)
        else:
            text.line(f"p = skip_tags(b, p, end, {count})")
        text.depth -= 1
        return locals_

    def _known_tags(self, tagged: list[Field], locals_: dict[str, str], count: str) -> None:
        text = self.text
        number, size, stop = text.name("tag"), text.name("size"), text.name("stop")
        text.line(f"if {count} > {primitives.TAGS_MAX}:")
        text.line("    raise too_many()")
        text.line(f"for _ in range({count}):")
        text.depth += 1
        text.line(f"{number}, p = uvarint(b, p)")
        text.line(f"{size}, p = uvarint(b, p)")
        text.line(f"{stop} = p + {size}")
        text.line(f"if {stop} > end:")
        text.line(f"    raise too_long('a tagged field', {size}, end - p)")
        for branch, field in enumerate(tagged):
            text.line(f"{'elif' if branch else 'if'} {number} == {field.tag}:")
            text.depth += 1
            built = self.value(field)
            self.flush()
            text.line(f"{locals_[field.name]} = {built}")
            text.depth -= 1
        text.line("else:")
        text.line(f"    p = {stop}")
        text.line(f"if p != {stop}:")
        text.line(
            "    raise ProtocolError(f'tagged field {" + number + "} does not end where its size says')"
        )
        text.depth -= 1
