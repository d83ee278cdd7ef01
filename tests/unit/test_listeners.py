"""Listeners: what is an address, what may stand together, what may be advertised."""

import pytest

from tailrace.core.config import ConfigError, load


def listeners(text: str, **settings: str) -> tuple[tuple[str, str, int], ...]:
    """The listeners of a configuration with this `listeners` value."""
    more = {name.replace("_", "."): value for name, value in settings.items()}
    return load({"listeners": text, **more})[0].listeners


BOTH = "A:PLAINTEXT,B:PLAINTEXT,PLAINTEXT:PLAINTEXT"


def test_an_address_is_a_name_a_host_and_a_port() -> None:
    assert listeners("PLAINTEXT://localhost:0") == (("PLAINTEXT", "localhost", 0),)
    assert listeners("plaintext://:9092") == (("PLAINTEXT", "", 9092),)
    assert listeners("PLAINTEXT://[::1]:9092") == (("PLAINTEXT", "::1", 9092),)


def test_a_port_may_be_shared_by_an_ipv4_and_an_ipv6_address() -> None:
    two = listeners("A://127.0.0.1:9092,B://[::1]:9092", listener_security_protocol_map=BOTH)
    assert two == (("A", "127.0.0.1", 9092), ("B", "::1", 9092))


def test_kafkas_own_server_properties_are_understood() -> None:
    config, warnings = load(
        {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": "localhost:9093",
            "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "inter.broker.listener.name": "PLAINTEXT",
            "advertised.listeners": "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL",
            "num.network.threads": "3",
            "log.dirs": "/var/lib/kafka",
            "offsets.topic.replication.factor": "1",
            "num.recovery.threads.per.data.dir": "1",
            "log.segment.bytes": "1073741824",
        }
    )
    assert config.listeners == (("PLAINTEXT", "", 9092),)
    assert config.advertised_listeners == (("PLAINTEXT", "localhost", 9092),)
    assert config.node_id == 1
    assert not warnings


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:9092",
        "PLAINTEXT://localhost",
        "PLAINTEXT://localhost:x",
        "PLAINTEXT://localhost:65536",
        "PLAINTEXT://localhost:-1",
        "PLAINTEXT://::1:9092",
        "PLAINTEXT://a b:1",
        "://localhost:1",
        "PLAINTEXT://a:1,PLAINTEXT://b:2",
        "A://127.0.0.1:1,B://127.0.0.2:1",
        "SSL://localhost:9093",
        "SASL_PLAINTEXT://localhost:9093",
        "UNKNOWN://localhost:9093",
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        listeners(text, listener_security_protocol_map=BOTH + ",SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT")
    assert "listener" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_controller_listeners_leave_nothing_for_clients() -> None:
    with pytest.raises(ConfigError, match="only controller listeners"):
        listeners("C://:1", controller_listener_names="C")


@pytest.mark.parametrize(
    "advertised", ["PLAINTEXT://0.0.0.0:1", "PLAINTEXT://:1", "PLAINTEXT://[::]:1", "X://h:1"]
)
def test_what_no_client_reaches_is_not_advertised(advertised: str) -> None:
    with pytest.raises(ConfigError, match=r"advertised\.listeners"):
        load({"advertised.listeners": advertised})


def test_fixed_without_an_address_advertises_the_listeners() -> None:
    config, _ = load({"advertised.mode": "fixed", "listeners": "PLAINTEXT://10.0.0.1:9092"})
    assert config.advertised_listeners == (("PLAINTEXT", "10.0.0.1", 9092),)
