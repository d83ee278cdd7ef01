"""Listeners: `NAME://host:port`, what may stand together, and what may be advertised.

An empty host means every interface, as in Kafka. Port 0 asks for any free port.
"""

from typing import NamedTuple

from tailrace.core.config_keys import ConfigError


def address_text(host: str, port: int) -> str:
    """`host:port`, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Listener(NamedTuple):
    """One address: the listener's name in upper case, host ("" for every interface), port."""

    name: str
    host: str
    port: int


def parse_listeners(key: str, entries: tuple[str, ...]) -> tuple[Listener, ...]:
    """The listeners of a list value; names and ports may not be used twice."""
    if not entries:
        raise ConfigError(f"{key} names no address: NAME://host:port is expected")
    listeners = tuple(_parse_listener(key, entry) for entry in entries)
    names = [listener.name for listener in listeners]
    if len(set(names)) != len(names):
        raise ConfigError(f"Each listener must have a different name, {key}: {','.join(entries)}")
    return listeners


def _parse_listener(key: str, entry: str) -> Listener:
    name, separator, address = entry.partition("://")
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise _unusable(key, entry, "an IPv6 address stands in brackets, as in [::1]:9092")
    if not separator or not colon or not name:
        raise _unusable(key, entry, "NAME://host:port is expected")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise _unusable(key, entry, "the port is a number from 0 to 65535")
    if any(char in " /@[]" for char in host):
        raise _unusable(key, entry, "that is no host name")
    return Listener(name.upper(), host, int(port))


def _unusable(key: str, entry: str, why: str) -> ConfigError:
    return ConfigError(f"Unable to parse {entry!r} in {key}: {why}")


def without_controllers(
    listeners: tuple[Listener, ...], controllers: tuple[str, ...]
) -> tuple[Listener, ...]:
    """The listeners that clients use: our controller is reached through shared memory and has no port."""
    hidden = {name.upper() for name in controllers}
    kept = tuple(listener for listener in listeners if listener.name not in hidden)
    if not kept:
        raise ConfigError("listeners names only controller listeners: clients need one of their own")
    _check_ports(kept)
    return kept


def _check_ports(listeners: tuple[Listener, ...]) -> None:
    """A port serves two listeners only when one is an IPv4 and the other an IPv6 address, as in Kafka."""
    seen: dict[int, list[Listener]] = {}
    for listener in listeners:
        if listener.port:
            seen.setdefault(listener.port, []).append(listener)
    for port, same in seen.items():
        families = [_family(listener.host) for listener in same]
        if len(same) > 1 and sorted(families) != ["4", "6"]:
            raise ConfigError(
                f"Each listener must have a different port, listeners: {port} is used {len(same)} times"
            )


def _family(host: str) -> str:
    if ":" in host:
        return "6"
    octets = host.split(".")
    return "4" if len(octets) == 4 and all(octet.isdigit() for octet in octets) else "name"


def advertised_listeners(
    entries: tuple[str, ...], listeners: tuple[Listener, ...], controllers: tuple[str, ...]
) -> tuple[Listener, ...]:
    """What advertised.mode=fixed tells clients: advertised.listeners, or the listeners themselves."""
    if entries:
        hidden = {name.upper() for name in controllers}
        parsed = parse_listeners("advertised.listeners", entries)
        told = tuple(listener for listener in parsed if listener.name not in hidden)
    else:
        told = listeners
    names = {listener.name for listener in listeners}
    for name, host, _ in told:
        if host in ("", "0.0.0.0", "::"):
            raise ConfigError(
                f"advertised.listeners cannot use the nonroutable address {host or 'of every interface'} "
                f"for {name}: name a host that clients reach, or set advertised.mode=auto"
            )
        if name not in names:
            raise ConfigError(
                f"advertised.listeners has {name}, listeners does not: it has {', '.join(sorted(names))}"
            )
    return told


def shifted(entries: tuple[str, ...], by: int) -> tuple[str, ...]:
    """The same listeners with ports that are higher by so many; port 0 stays any free one."""
    moved: list[str] = []
    for entry in entries:
        address, colon, port = entry.rpartition(":")
        is_fixed = port.isascii() and port.isdigit() and int(port) != 0
        moved.append(f"{address}{colon}{int(port) + by}" if is_fixed else entry)
    return tuple(moved)
