"""`tailrace start`: read the configuration and become a broker.

Time to the first produce counts, so click is not imported for the plain forms of this command:
`plain_arguments` reads those, and hands everything else (help, mistakes, abbreviations) to click, which
then reads the same options.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

from tailrace.clients.cli.failures import USAGE, fail, say
from tailrace.clients.cli.hooks import Hooks
from tailrace.core.config import BrokerConfig, ConfigError, load
from tailrace.core.config_sources import decode_properties, parse_properties

PROPERTIES_BYTES_MAX = 1 << 20
OPTIONS = {"--data": "DIR", "--port": "P", "--brokers": "N", "--set": "KEY=VALUE"}


class StartArguments(NamedTuple):
    """What `start` was told."""

    data: str | None = None
    port: int | None = None
    brokers: int | None = None
    settings: tuple[str, ...] = ()
    file: str | None = None
    strict: bool = False


def plain_arguments(arguments: Sequence[str]) -> StartArguments | None:
    """The arguments when every one of them is plain; None when click should read them."""
    values: dict[str, list[str]] = {name: [] for name in OPTIONS}
    files: list[str] = []
    strict = False
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        position += 1
        if not argument.startswith("-"):
            files.append(argument)
            continue
        if argument == "--strict":
            strict = True
            continue
        name, equals, value = argument.partition("=")
        if name not in OPTIONS:
            return None
        if not equals:
            if position == len(arguments) or arguments[position].startswith("-"):
                return None
            value = arguments[position]
            position += 1
        values[name].append(value)
    numbers = values["--port"] + values["--brokers"]
    if len(files) > 1 or not all(map(is_setting, values["--set"])):
        return None
    if not all(number.isascii() and number.isdigit() and int(number) < 65536 for number in numbers):
        return None
    return StartArguments(
        data=values["--data"][-1] if values["--data"] else None,
        port=int(values["--port"][-1]) if values["--port"] else None,
        brokers=int(values["--brokers"][-1]) if values["--brokers"] else None,
        settings=tuple(values["--set"]),
        file=files[0] if files else None,
        strict=strict,
    )


def is_setting(text: str) -> bool:
    """Whether a text is KEY=VALUE."""
    return text.find("=") > 0


def start(arguments: StartArguments, hooks: Hooks) -> int:
    """Become a broker; the exit status. What is wrong with the configuration is one line."""
    try:
        config, warnings = configure(arguments)
    except ConfigError as error:
        fail(str(error))
    for warning in warnings:
        say(f"warning: {warning}")
    return hooks.run_broker(config)


def configure(arguments: StartArguments) -> tuple[BrokerConfig, list[str]]:
    """Defaults, then the file, then the environment, then --set, then --data, --brokers and --port."""
    properties = {} if arguments.file is None else read_properties(arguments.file)
    overrides = dict(setting.split("=", 1) for setting in arguments.settings)
    overrides = {name.strip(): value for name, value in overrides.items()}
    if arguments.data is not None:
        if not arguments.data:  # of a variable that is not set; it would be the working directory
            fail("--data: the directory's name is empty", USAGE)
        if "," in arguments.data:
            raise ConfigError(f"--data: a comma separates directories in log.dirs: {arguments.data}")
        overrides["log.dirs"] = os.path.abspath(arguments.data)

    if arguments.brokers is not None:
        overrides["brokers"] = str(arguments.brokers)

    def read() -> tuple[BrokerConfig, list[str]]:
        return load(
            properties, os.environ, overrides, strict=arguments.strict, default_log_dir=_default_log_dir
        )

    config, warnings = read()
    if arguments.port is not None:
        overrides["listeners"] = _with_port(config, arguments.port)
        config, warnings = read()
    return config, warnings


def _default_log_dir() -> str:
    from tailrace.clients.cli.data_directory import default_data_directory

    return default_data_directory()


def read_properties(path: str) -> dict[str, str]:
    """The keys of a server.properties file; ConfigError, which names the file, when it is none."""
    try:
        with open(path, "rb") as file:
            raw = file.read(PROPERTIES_BYTES_MAX + 1)  # a device may have no end
        if len(raw) > PROPERTIES_BYTES_MAX:
            raise ConfigError(f"it is larger than {PROPERTIES_BYTES_MAX} bytes")
        return parse_properties(decode_properties(raw))
    except OSError as error:
        raise ConfigError(f"cannot read properties file {path!r}: {error.strerror}") from error
    except (ConfigError, ValueError) as error:  # ValueError: of a path with a NUL in it
        raise ConfigError(f"properties file {path!r}: {error}") from error


def _with_port(config: BrokerConfig, port: int) -> str:
    """The listeners with the port of the first one replaced."""
    first, *others = config.listeners
    listeners = [first._replace(port=port), *others]
    return ",".join(
        f"{name}://[{host}]:{number}" if ":" in host else f"{name}://{host}:{number}"
        for name, host, number in listeners
    )
