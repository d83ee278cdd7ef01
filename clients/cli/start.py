"""`tailrace start`: read the configuration and become a broker.

Time to the first produce counts, so click is not imported for the plain forms of this command:
`plain_arguments` reads those, and hands everything else (help, mistakes, abbreviations) to click, which
then reads the same options.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

from tailrace.clients.cli.failures import FAILED, fail, say
from tailrace.clients.cli.hooks import Hooks
from tailrace.core.config import BrokerConfig, ConfigError, load
from tailrace.core.config_sources import parse_properties

OPTIONS = {"--data": "DIR", "--port": "P", "--brokers": "N", "--set": "KEY=VALUE"}


class StartArguments(NamedTuple):
    """What `start` was told."""

    data: str | None = None
    port: int | None = None
    brokers: int = 1
    settings: tuple[str, ...] = ()
    file: str | None = None


def plain_arguments(arguments: Sequence[str]) -> StartArguments | None:
    """The arguments when every one of them is plain; None when click should read them."""
    values: dict[str, list[str]] = {name: [] for name in OPTIONS}
    files: list[str] = []
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        position += 1
        if not argument.startswith("-"):
            files.append(argument)
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
    if len(files) > 1 or any("=" not in item for item in values["--set"]):
        return None
    if not all(number.isascii() and number.isdigit() and int(number) < 65536 for number in numbers):
        return None
    return StartArguments(
        data=values["--data"][-1] if values["--data"] else None,
        port=int(values["--port"][-1]) if values["--port"] else None,
        brokers=int(values["--brokers"][-1]) if values["--brokers"] else 1,
        settings=tuple(values["--set"]),
        file=files[0] if files else None,
    )


def start(arguments: StartArguments, hooks: Hooks) -> int:
    """Become a broker; the exit status. What is wrong with the configuration is one line."""
    if arguments.brokers != 1:
        fail(
            "--brokers: one broker a command is served so far, more need replicas, which are not there yet",
            FAILED,
        )
    try:
        config, warnings = configure(arguments)
    except ConfigError as error:
        fail(str(error))
    for warning in warnings:
        say(f"warning: {warning}")
    return hooks.run_broker(config)


def configure(arguments: StartArguments) -> tuple[BrokerConfig, list[str]]:
    """Defaults, then the file, then the environment, then --set, then --data and --port."""
    properties = {} if arguments.file is None else read_properties(arguments.file)
    overrides = dict(setting.split("=", 1) for setting in arguments.settings)
    overrides = {name.strip(): value for name, value in overrides.items()}
    if arguments.data is not None:
        if "," in arguments.data:
            raise ConfigError(f"--data: a comma separates directories in log.dirs: {arguments.data}")
        overrides["log.dirs"] = os.path.abspath(arguments.data)
    config, warnings = load(properties, os.environ, overrides)
    if not config.log_dirs:
        from tailrace.clients.cli.data_directory import default_data_directory

        overrides["log.dirs"] = default_data_directory()
    if arguments.port is not None:
        overrides["listeners"] = _with_port(config, arguments.port)
    if not config.log_dirs or arguments.port is not None:
        config, warnings = load(properties, os.environ, overrides)
    return config, warnings


def read_properties(path: str) -> dict[str, str]:
    """The keys of a server.properties file: UTF-8, or Java's own Latin-1 when it is not."""
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return parse_properties(text)


def _with_port(config: BrokerConfig, port: int) -> str:
    """The listeners with the port of the first one replaced."""
    first, *others = config.listeners
    listeners = [first._replace(port=port), *others]
    return ",".join(
        f"{name}://[{host}]:{number}" if ":" in host else f"{name}://{host}:{number}"
        for name, host, number in listeners
    )
