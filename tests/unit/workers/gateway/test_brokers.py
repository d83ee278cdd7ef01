"""Whom a gateway tells its clients of, and by which address."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tailrace.core.config import load
from tailrace.core.config_brokers import split
from tailrace.core.listeners import Listener
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import BrokerRegistered
from tailrace.shm.slots import CONTROLLER, GATEWAY, READY, STOPPING, Layout, SlotTable
from tailrace.workers.addresses import Addresses, publish_addresses
from tailrace.workers.gateway.brokers import Brokers, Endpoint
from tailrace.workers.gateway.gateway import Gateway
from tailrace.workers.gateway.listener import UNIX

LAYOUT = Layout(brokers=3, workers_each=1)


class World:
    """Brokers 5 to 7; the gateway is that of broker 6."""

    def __init__(self, path: Path, **settings: str) -> None:
        given = {"log.dirs": "/d", "brokers": "3", "node.id": "5"}
        given |= {name.replace("_", "."): value for name, value in settings.items()}
        configs = split(load(given)[0])
        self.path = str(path)
        self.slots = SlotTable.create(f"{path}/slots", LAYOUT.slot_count)
        ids = [config.node_id for config in configs]

        def index_of(node_id: int) -> int:
            return ids.index(node_id) if node_id in ids else -1

        def owner_of(slot: int) -> int:
            return ids[LAYOUT.broker_of(slot)]

        self.gateway: Any = SimpleNamespace(
            context=SimpleNamespace(
                brokers=[SimpleNamespace(node_id=config.node_id, config=config) for config in configs],
                layout=LAYOUT,
                slots=self.slots,
                broker=1,
                node_id=6,
                run_dir=self.path,
                index_of=index_of,
                owner_of=owner_of,
                active_controller=lambda: self.slots.active_controller(LAYOUT.controllers()),
            ),
            bound=configs[1].listeners,
            image=MetadataImage(),
            advertised=self._advertised,
        )
        self.brokers = Brokers(cast(Gateway, self.gateway))

    @staticmethod
    def _advertised(connection: Any) -> tuple[str, int]:
        host, port = connection.sock.getsockname()[:2]
        return host, port

    def serve(self, index: int, *listeners: Listener) -> None:
        """A gateway begins at these addresses."""
        slot = LAYOUT.gateway(index)
        incarnation = self.slots.incarnation(slot)
        if incarnation and self.slots.live_incarnation(slot):
            self.slots.mark_dead(slot, incarnation)
        self.slots.begin(slot, GATEWAY, index, 0)
        publish_addresses(self.path, index, Addresses("", "", listeners))
        self.slots.set_state(slot, READY)

    def told(self, host: str, port: int, peer: str = "1.2.3.4") -> list[Endpoint]:
        """What a client hears that came to this address."""
        connection: Any = SimpleNamespace(peer=peer, sock=SimpleNamespace(getsockname=lambda: (host, port)))
        return self.brokers.listed(connection)


def test_only_brokers_whose_gateway_serves_are_told_of(tmp_path: Path) -> None:
    world = World(tmp_path, listeners="A://127.0.0.1:100", listener_security_protocol_map="A:PLAINTEXT")
    assert world.told("127.0.0.1", 101) == [Endpoint(6, "127.0.0.1", 101, None)]
    world.serve(0, Listener("A", "127.0.0.1", 100))
    world.serve(2, Listener("A", "127.0.0.1", 102))
    assert [(one.node_id, one.port) for one in world.told("127.0.0.1", 101)] == [(5, 100), (6, 101), (7, 102)]
    world.slots.set_state(LAYOUT.gateway(0), STOPPING)
    assert [one.node_id for one in world.told("127.0.0.1", 101)] == [6, 7]
    world.slots.mark_dead(LAYOUT.gateway(2), world.slots.incarnation(LAYOUT.gateway(2)))
    assert [one.node_id for one in world.told("127.0.0.1", 101)] == [6]
    world.serve(2, Listener("A", "127.0.0.1", 999))
    assert [(one.node_id, one.port) for one in world.told("127.0.0.1", 101)] == [(6, 101), (7, 999)]
    fenced = BrokerRegistered(broker_id=7, broker_epoch=0, fenced=True)
    world.gateway.image.replay([fenced], 1)
    assert [one.node_id for one in world.told("127.0.0.1", 101)] == [6]


@pytest.mark.parametrize(
    ("came_to", "told"),
    [(("10.0.0.9", 101), ("10.0.0.9", 100)), (("127.0.0.1", 201), ("127.0.0.1", 200))],
)
def test_a_client_is_told_of_the_listener_through_which_it_came(
    tmp_path: Path, came_to: tuple[str, int], told: tuple[str, int]
) -> None:
    """An address of every interface is the one that the client has found."""
    world = World(
        tmp_path,
        listeners="A://:100,B://127.0.0.1:200",
        listener_security_protocol_map="A:PLAINTEXT,B:PLAINTEXT",
    )
    world.serve(0, Listener("A", "", 100), Listener("B", "127.0.0.1", 200))
    assert world.told(*came_to)[0] == Endpoint(5, *told, None)


def test_who_came_by_the_unix_socket_is_told_of_the_first_listener(tmp_path: Path) -> None:
    world = World(tmp_path, listeners="PLAINTEXT://127.0.0.1:100", broker_5_broker_rack="east")
    world.serve(0, Listener("PLAINTEXT", "127.0.0.1", 100))
    assert world.told("127.0.0.1", 101, UNIX)[0] == Endpoint(5, "127.0.0.1", 100, "east")


def test_an_address_that_is_given_is_told_as_it_is(tmp_path: Path) -> None:
    world = World(
        tmp_path,
        listeners="PLAINTEXT://127.0.0.1:100",
        broker_5_advertised_listeners="PLAINTEXT://kafka.example.org:0",
        broker_7_listeners="PLAINTEXT://127.0.0.7:300",
    )
    world.serve(0, Listener("PLAINTEXT", "127.0.0.1", 100))
    world.serve(2, Listener("PLAINTEXT", "127.0.0.7", 300))
    first, _, last = world.told("127.0.0.1", 101)
    assert (first.host, first.port) == ("kafka.example.org", 100)
    assert (last.host, last.port) == ("127.0.0.7", 300)


def test_who_decides_is_told_while_it_is_there(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.brokers.controller_id() == 6
    slot = LAYOUT.controller(2)
    world.slots.begin(slot, CONTROLLER, 2, 0)
    world.slots.set_active_epoch(slot, 1)
    assert world.brokers.controller_id() == 6
    world.serve(2, Listener("PLAINTEXT", "127.0.0.1", 9094))
    assert world.brokers.controller_id() == 7
