"""Writes the encoder of one message version as straight-line Python.

Shape of the result: runs of fixed values are packed by one precompiled Struct together with the one-byte
length that follows; parts are inlined as loops over `out += ...`. Records are never copied: they stand in the
list of pieces as the object that was given. A tagged field equal to its default is left out, as Kafka does.
"""

from typing import Any

from msgspec import Struct

from tailrace.core.errors import ProtocolError
from tailrace.core.protocol import primitives
from tailrace.core.protocol.generated import Text, split_fields
from tailrace.core.protocol.schema import FIXED, NEWEST, Field, fields_of

ERROR_MESSAGE = (
    "error_message"  # (R) the only strings of ours that quote clients: cut where too long to be sent
)
_COUNT_FORMATS = {"string": "h", "bytes": "i", "records": "i", "array": "i"}


def encoder_source(cls: type[Struct], version: int, flexible: bool, constants: dict[str, Any]) -> str:
    """The text of `encode(m)`; what it refers to is added to constants."""
    constants.update(
        uvarint_bytes=primitives.uvarint_bytes,
        cut_text=primitives.cut_text,
        int32s_bytes=primitives.int32s_bytes,
        unsupported=primitives.unsupported,
        ProtocolError=ProtocolError,
        UNENCODABLE=primitives.UNENCODABLE,
    )
    text = Text(constants)
    text.line("try:")
    text.depth += 1
    text.line("pieces = []")
    text.line("out = bytearray()")
    writer = _Encoding(text, version, flexible, "out")
    writer.message(cls, "m")
    writer.flush()
    text.line("pieces.append(out)")
    text.line("return pieces")
    text.depth -= 1
    text.line("except UNENCODABLE as error:")
    text.line(
        f"    raise ProtocolError(f'cannot encode {cls.__name__} version {version}: {{error}}') from error"
    )
    return "\n".join(("def encode(m):", *text.lines, ""))


class _Encoding:
    def __init__(self, text: Text, version: int, flexible: bool, out: str) -> None:
        self.text = text
        self.version = version
        self.flexible = flexible
        self.out = out
        self.run: list[tuple[str, str]] = []  # formats and the expressions to pack, not written yet

    def message(self, cls: type[Struct], local: str) -> None:
        """Write code that appends the message held by a local. A run may be left waiting."""
        self.refuse_unsupported(cls, local)
        plain, tagged = split_fields(cls, self.version)
        for field in plain:
            self.value(field, f"{local}.{field.name}")
        if not self.flexible:
            return
        if tagged:
            self.tagged_fields(tagged, local)
        else:
            self.run.append(("x", ""))

    def refuse_unsupported(self, cls: type[Struct], local: str) -> None:
        """A value that this version cannot carry is an error unless the field is ignorable."""
        for field in fields_of(cls):
            if field.in_version(self.version) or field.ignorable:
                continue
            self.text.line(f"if {self.differs(field, f'{local}.{field.name}')}:")
            self.text.line(f"    raise unsupported('{cls.__name__}.{field.name}', {self.version})")

    def differs(self, field: Field, value: str) -> str:
        """The condition that a value is not the field's default."""
        if field.default is None:
            return f"{value} is not None"
        if field.kind == "array":
            return value if field.null_since > NEWEST else f"{value} != []"
        if isinstance(field.default, Struct):
            return f"{value} != {self.default_of(type(field.default))}"
        return f"{value} != {field.default!r}"

    def default_of(self, cls: type[Struct]) -> str:
        """The name of a part whose fields all have their defaults."""
        return self.text.constant(f"DEFAULT_{cls.__name__}", _default(cls))

    def value(self, field: Field, value: str) -> None:
        """Write code that appends a field."""
        if field.kind in FIXED:
            self.run.append((FIXED[field.kind][0], value))
        elif field.kind == "struct":
            self.struct(field, value)
        else:
            self.counted(field, value)

    def packing(self, run: list[tuple[str, str]]) -> str | None:
        """The statement that appends a run, if it has any."""
        if not run:
            return None
        formats = [format_ for format_, _ in run]
        values = [value for format_, value in run if format_ != "x"]
        if not values:
            return f"{self.out} += {bytes(len(run))!r}"
        if formats == ["B"]:
            return f"{self.out}.append({values[0]})"
        return f"{self.out} += {self.text.struct_method('pack', formats)}({', '.join(values)})"

    def flush(self) -> None:
        """Write what waits."""
        run, self.run = self.run, []
        if packing := self.packing(run):
            self.text.line(packing)

    def struct(self, field: Field, value: str) -> None:
        text = self.text
        assert field.struct is not None
        local = text.name(field.name or "item")
        text.line(f"{local} = {value}")
        if field.null_since > self.version:
            self.message(field.struct, local)
            return
        self.flush()
        text.line(f"if {local} is None:")
        text.line(f"    {self.out}.append({255 if field.tag < 0 else 0})")
        text.line("else:")
        text.depth += 1
        self.run.append(("b", "1"))
        self.message(field.struct, local)
        self.flush()
        text.depth -= 1

    def counted(self, field: Field, value: str) -> None:
        """A string, bytes, records or an array: a length or count, then what it counts."""
        text = self.text
        local, count = text.name(field.name or "item"), text.name("n")
        text.line(f"{local} = {value}")
        content = f"{local}.encode()" if field.kind == "string" else ""
        if content and field.name.endswith(ERROR_MESSAGE):
            content = f"cut_text({local})"
        more = " + 1" if self.flexible else ""
        if field.null_since <= self.version:
            text.line(f"if {local} is None:")
            text.line(f"    {count} = {0 if self.flexible else -1}")
            text.line(f"    {local} = b''")
            text.line("else:")
            if content:
                text.line(f"    {local} = {content}")
            text.line(f"    {count} = len({local}){more}")
        else:
            if content:
                text.line(f"{local} = {content}")
            text.line(f"{count} = len({local}){more}")
        self.length(field.kind, count)
        if field.kind == "array":
            self.items(field, local)
        elif field.kind == "records":
            self.records(local)
        else:
            text.line(f"{self.out} += {local}")

    def length(self, kind: str, count: str) -> None:
        """Write the waiting run and a length; a long varint takes the slow branch."""
        if not self.flexible:
            self.run.append((_COUNT_FORMATS[kind], count))
            self.flush()
            return
        run, self.run = self.run, []
        self.text.line(f"if {count} < 128:")
        self.text.line(f"    {self.packing([*run, ('B', count)])}")
        self.text.line("else:")
        if packing := self.packing(run):
            self.text.line(f"    {packing}")
        self.text.line(f"    {self.out} += uvarint_bytes({count})")

    def items(self, field: Field, local: str) -> None:
        text, item = self.text, field.item
        assert item is not None
        if item.kind == "int32":
            text.line(f"{self.out} += int32s_bytes({local})")
            return
        each = text.name("item")
        text.line(f"for {each} in {local}:")
        text.depth += 1
        if item.struct is not None and item.null_since > self.version:
            self.message(item.struct, each)
        else:
            self.value(item, each)
        self.flush()
        text.depth -= 1

    def records(self, local: str) -> None:
        """The records become a piece of their own."""
        assert self.out == "out", "records in a tagged field"
        self.text.line(f"if len({local}):")
        self.text.line("    pieces.append(out)")
        self.text.line(f"    pieces.append({local})")
        self.text.line("    out = bytearray()")

    def tagged_fields(self, tagged: list[Field], local: str) -> None:
        """The closing section of a flexible part; usually every tagged field has its default."""
        text = self.text
        present: list[str] = []
        for field in tagged:
            value = text.name(field.name)
            text.line(f"{value} = {local}.{field.name}")
            condition = self.differs(field, value)
            if field.struct is not None and field.default is None:
                condition = f"{condition} and {value} != {self.default_of(field.struct)}"
            present.append(condition)
        run, self.run = self.run, []
        some = text.name("some")
        text.line(f"{some} = {' or '.join(f'({condition})' for condition in present)}")
        text.line(f"if not {some}:")
        text.line(f"    {self.packing([*run, ('x', '')])}")
        text.line("else:")
        text.depth += 1
        if packing := self.packing(run):
            text.line(packing)
        self._tag_section(tagged, present)
        text.depth -= 1

    def _tag_section(self, tagged: list[Field], present: list[str]) -> None:
        text = self.text
        body, count, part = text.name("tagged"), text.name("tag_count"), text.name("part")
        text.line(f"{body} = bytearray()")
        text.line(f"{count} = 0")
        for field, condition in zip(tagged, present, strict=True):
            value = condition.split(" ", 1)[0]
            text.line(f"if {condition}:")
            text.depth += 1
            text.line(f"{count} += 1")
            text.line(f"{part} = bytearray()")
            inner = _Encoding(text, self.version, self.flexible, part)
            inner.value(field, value)
            inner.flush()
            text.line(f"{body} += uvarint_bytes({field.tag}) + uvarint_bytes(len({part})) + {part}")
            text.depth -= 1
        text.line(f"{self.out} += uvarint_bytes({count}) + {body}")


_defaults: dict[type[Struct], Struct] = {}


def _default(cls: type[Struct]) -> Struct:
    return _defaults.setdefault(cls, cls())
