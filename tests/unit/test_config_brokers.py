"""What each of several brokers on one host is configured with."""

import pytest

from tailrace.core.config import BrokerConfig, ConfigError, load
from tailrace.core.config_brokers import split


def of(**settings: str) -> tuple[BrokerConfig, ...]:
    """The brokers of a host with these settings, with _ for dots."""
    given = {name.replace("_", "."): value for name, value in settings.items()}
    return split(load({"log.dirs": "/data", **given})[0])


def test_one_broker_has_what_is_given() -> None:
    (one,) = of(node_id="7", listeners="PLAINTEXT://127.0.0.1:9092", unix_socket_path="/s")
    assert (one.node_id, one.log_dirs, one.unix_socket_path) == (7, ("/data",), "/s")
    assert one.listeners[0].port == 9092


def test_each_of_three_has_an_id_ports_directories_and_a_socket_of_its_own() -> None:
    brokers = of(
        brokers="3",
        node_id="7",
        listeners="A://127.0.0.1:9092,B://127.0.0.1:0",
        listener_security_protocol_map="A:PLAINTEXT,B:PLAINTEXT",
        advertised_listeners="A://example.org:19092",
        unix_socket_path="/s",
        log_dirs="/a,/b",
        metadata_log_dir="/m/",
    )
    assert [broker.node_id for broker in brokers] == [7, 8, 9]
    assert [[listener.port for listener in broker.listeners] for broker in brokers] == [
        [9092, 0], [9093, 0], [9094, 0],
    ]  # fmt: skip
    assert [broker.advertised_listeners[0].port for broker in brokers] == [19092, 19093, 19094]
    assert brokers[2].log_dirs == ("/a/broker-9", "/b/broker-9")
    assert brokers[1].metadata_log_dir == "/m/broker-8"
    assert [broker.unix_socket_path for broker in brokers] == ["/s", "/s.8", "/s.9"]


def test_a_key_for_one_broker_wins_over_all() -> None:
    first, second = of(
        brokers="2",
        broker_0_broker_rack="east",
        broker_1_broker_rack="west",
        broker_1_log_dir="/far",
        broker_1_listeners="PLAINTEXT://127.0.0.2:1234",
        broker_1_advertised_listeners="PLAINTEXT://far.example.org:4321",
    )
    assert (first.rack, second.rack) == ("east", "west")
    assert (first.log_dirs, second.log_dirs) == (("/data/broker-0",), ("/far",))
    assert second.listeners == (("PLAINTEXT", "127.0.0.2", 1234),)
    assert (first.advertised_mode, second.advertised_mode) == ("auto", "fixed")
    assert "broker.rack" in second.given


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"brokers": "4"}, "brokers"),
        ({"brokers": "2", "broker_2_broker_rack": "x"}, "there is no broker 2, ids are 0 to 1"),
        ({"broker_1_broker_rack": "x"}, "there is no broker 1, the only id is 0"),
        ({"broker_0_no_such": "x"}, "unknown configuration 'no.such'"),
        ({"broker_0_workers_max": "3"}, "workers.max is set for all brokers, not one"),
        ({"broker_0_fetch_max_bytes": "x"}, "fetch.max.bytes"),
        (
            {
                "brokers": "3",
                "listeners": "A://:9092,B://:9094",
                "listener_security_protocol_map": "A:PLAINTEXT,B:PLAINTEXT",
            },
            "brokers 0 and 2 would both listen on port 9094: set broker.2.listeners",
        ),
        ({"brokers": "2", "listeners": "PLAINTEXT://:65535"}, "65536"),
        ({"supervisor_stall_timeout_ms": "1999"}, "supervisor.stall.timeout.ms is 0 (never) or 2000"),
    ],
)
def test_what_cannot_be_is_said_when_it_is_read(settings: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        of(**settings)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_variable_speaks_of_one_broker_too() -> None:
    environ = {"KAFKA_BROKERS": "2", "KAFKA_BROKER_1_BROKER_RACK": "west"}
    _, second = split(load({"log.dirs": "/data"}, environ)[0])
    assert second.rack == "west"
