"""Where keys come from: a server.properties text in Java's syntax, and `KAFKA_*` environment variables."""

from collections.abc import Iterator, Mapping

_SPACE = " \t\f"
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}

# Variables of Kafka's start scripts, which never become keys; those about the JVM mean nothing here.
_NOT_KEYS = frozenset(
    [
        "VERSION",
        "HEAP_OPTS",
        "OPTS",
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
        raise ConfigError(f"malformed \\u escape in the properties file: \\u{digits}") from None


def environment_properties(environ: Mapping[str, str]) -> dict[str, str]:
    """Keys set by `KAFKA_*`: `_` stands for `.`, `__` for `_` and `___` for `-`, in upper case."""
    properties: dict[str, str] = {}
    for variable, value in environ.items():
        if variable.startswith("KAFKA_") and variable[6:] not in _NOT_KEYS:
            name = variable[6:].lower().replace("___", "-").replace("__", "\0")
            properties[name.replace("_", ".").replace("\0", "_")] = value
    if "CLUSTER_ID" in environ:
        properties["cluster.id"] = environ["CLUSTER_ID"]
    return properties
