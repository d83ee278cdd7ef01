"""Where keys come from: a server.properties text in Java's syntax, and `KAFKA_*` environment variables."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

DEFAULT, FILE, ENVIRONMENT, COMMAND_LINE = "default", "file", "environment", "command line"


class Given(NamedTuple):
    """What one key was given: the text, the source that won, and how to name the place to its writer."""

    text: str
    source: str
    place: str


_SPACE = " \t\f"
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}

# Variables of Kafka's start scripts, which never become keys; those about the JVM mean nothing here.
_NOT_KEYS = frozenset(
    [
        "VERSION",
        "HEAP_OPTS",
        "OPTS",
        "DEBUG",
        "LOG4J_CMD_OPTS",
        "LOG4J_OPTS",
        "JMX_OPTS",
        "JMX_HOSTNAME",
        "JMX_PORT",
        "JVM_PERFORMANCE_OPTS",
        "GC_LOG_OPTS",
        "LOG4J_ROOT_LOGLEVEL",
        "LOG4J_LOGGERS",
        "TOOLS_LOG4J_LOGLEVEL",
        "HOME",
    ]
)


def decode_properties(raw: bytes) -> str:
    """The text of a properties file: UTF-8, with or without a mark in front, or Java's own Latin-1.

    Raises ConfigError for what is no such text.
    """
    from tailrace.core.config_keys import ConfigError

    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError("it is UTF-16: save it as UTF-8")
    if b"\0" in raw:
        raise ConfigError("it is no text: KEY=VALUE lines are expected")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def parse_properties(text: str) -> dict[str, str]:
    """Keys and values of a Java properties text; of a key that is given twice the last one stands."""
    properties: dict[str, str] = {}
    for line in _logical_lines(text):
        end = _key_end(line)
        rest = line[end:].lstrip(_SPACE)
        if rest[:1] in ("=", ":"):
            rest = rest[1:].lstrip(_SPACE)
        properties[_unescape(line[:end])] = _unescape(rest)
    return properties


def _logical_lines(text: str) -> Iterator[str]:
    pending: str | None = None
    for natural in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        line = natural.lstrip(_SPACE)
        if pending is None:
            if not line or line[0] in "#!":
                continue
            pending = ""
        backslashes = len(line) - len(line.rstrip("\\"))
        if backslashes % 2:  # an even number is escaped backslashes, and the line ends
            pending += line[:-1]
            continue
        yield pending + line
        pending = None
    if pending:
        yield pending


def _key_end(line: str) -> int:
    position = 0
    while position < len(line):
        if line[position] == "\\":
            position += 1
        elif line[position] in "=: \t\f":
            return position
        position += 1
    return len(line)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    pieces: list[str] = []
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == "\\" and position < len(text):
            char = text[position]
            position += 1
            if char == "u":
                char = _unicode_escape(text[position : position + 4])
                position += 4
            else:
                char = _ESCAPES.get(char, char)
        pieces.append(char)
    joined = "".join(pieces)
    # Java writes what lies beyond U+FFFF as two escapes; a lone half stays one, which no name accepts.
    return joined.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _unicode_escape(digits: str) -> str:
    from tailrace.core.config_keys import ConfigError

    try:
        if len(digits) != 4:
            raise ValueError
        return chr(int(digits, 16))
    except ValueError:
        raise ConfigError(f"malformed escape \\u{digits}: four hexadecimal digits are expected") from None


def environment_properties(environ: Mapping[str, str]) -> dict[str, Given]:
    """Keys set by `KAFKA_*`: `_` stands for `.`, `__` for `_` and `___` for `-`, in upper case.

    An empty CLUSTER_ID is none: compose files pass one on that is not set.
    """
    properties: dict[str, Given] = {}
    for variable, value in environ.items():
        if variable.startswith("KAFKA_") and variable[6:] and variable[6:] not in _NOT_KEYS:
            name = variable[6:].lower().replace("___", "-").replace("__", "\0")
            name = name.replace("_", ".").replace("\0", "_")
            properties[name] = Given(value, ENVIRONMENT, f"variable {variable}")
    if environ.get("CLUSTER_ID"):
        properties["cluster.id"] = Given(environ["CLUSTER_ID"], ENVIRONMENT, "variable CLUSTER_ID")
    return properties


def gather(
    file_properties: Mapping[str, str], environ: Mapping[str, str], overrides: Mapping[str, str]
) -> dict[str, Given]:
    """Every key that is given, by the last source that gives it: file, environment, command line."""
    given = {name: Given(text, FILE, "in the properties file") for name, text in file_properties.items()}
    given.update(environment_properties(environ))
    for name, text in overrides.items():
        given[name] = Given(text, COMMAND_LINE, "on the command line")
    return given


def take_own(given: dict[str, Given]) -> dict[int, dict[str, Given]]:
    """Take `broker.<id>.<key>` out of what is given: the keys that one of several brokers has for itself."""
    own: dict[int, dict[str, Given]] = {}
    for name in [name for name in given if name.startswith("broker.")]:
        number, dot, key = name.removeprefix("broker.").partition(".")
        if dot and key and number.isascii() and number.isdigit() and len(number) < 10:
            own.setdefault(int(number), {})[key] = given.pop(name)
    return own
