"""Random requests about a few groups, most of them nearly right: every one is answered or cut off, no process
dies, nothing is said on stderr, and a good member finds its group served.
"""

import socket
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

from perf import wire
from perf.peers.peer import Tcp
from perf.peers.tailrace import Tailrace
from perf.processes import tree
from tailrace.core.protocol import apis
from tailrace.core.protocol.compile import decode, encode
from tailrace.core.protocol.frames import request_frame
from tests.support.messages import random_message
from tests.support.waiting import wait_until

confluent_kafka: Any = import_module("confluent_kafka")

TOPIC = "orders"
REQUESTS = 2000
ANSWER_S = 0.1  # a join may wait for minutes: its connection is given up
KEYS = (8, 9, 10, 11, 11, 12, 13, 14, 14, 15, 16, 42, 47, 68, 68, 69)
WITH_MEMBER_ID = (11, 68)
CHOICES: dict[str, list[Any]] = {
    "group_id": ["a", "b"],
    "key": ["a", "b"],
    "group_instance_id": [None, None, "i"],
    "instance_id": [None, None, "i"],
    "member_epoch": [0, -1, -2, 1, 2, 3],
    "generation_id": [0, 1, 2, 3],
    "session_timeout_ms": [6000, 7000],
    "rebalance_timeout_ms": [1, 300, 2**31 - 1],
    "protocol_type": ["consumer"],
    "subscribed_topic_names": [None, [TOPIC], [TOPIC, "x"], []],
    "server_assignor": [None, "range", "uniform"],
}


class Nuisance:
    """Sends one request after the other, and learns member ids from the answers."""

    def __init__(self, endpoint: Tcp, seed: int) -> None:
        self._random = Random(seed)
        self._endpoint = endpoint
        self._member_ids = [""]
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection((self._endpoint.host, self._endpoint.port), 5)
        self._socket.settimeout(ANSWER_S)

    def send_one(self) -> None:
        """One request, and its answer if it comes soon."""
        api = apis.APIS[self._random.choice(KEYS)]
        version = self._random.randint(api.min_version, api.max_version)
        frame = b"".join(map(bytes, request_frame(api, version, 0, "nuisance", [self._body(api, version)])))
        try:
            self._socket.sendall(frame)
            answer = self._read(int.from_bytes(self._read(4)))
        except OSError:  # cut off, or it waits
            self._socket.close()
            self._connect()
            return
        if api.key in WITH_MEMBER_ID:
            message: Any = decode(api.response, version, answer[4 + api.response_header_version(version) :])
            if message.member_id:
                self._member_ids = [*self._member_ids[-7:], message.member_id]

    def _body(self, api: apis.Api, version: int) -> bytearray:
        message = random_message(api.request, version, self._random)
        for name, values in CHOICES.items():
            if hasattr(message, name) and self._random.random() < 0.9:
                setattr(message, name, self._random.choice(values))
        if hasattr(message, "member_id") and self._random.random() < 0.8:
            message.member_id = self._random.choice(self._member_ids)
        for protocol in getattr(message, "protocols", None) or ():
            protocol.name = self._random.choice(["range", "roundrobin"])
        try:
            body = bytearray(encode(message, version))
        except Exception:  # a value that this version cannot carry
            body = bytearray(encode(random_message(api.request, version, self._random), version))
        if body and self._random.random() < 0.05:
            body[self._random.randrange(len(body))] = self._random.randrange(256)
        return body

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            got = self._socket.recv(size - len(data))
            if not got:
                raise ConnectionError
            data += got
        return data

    def close(self) -> None:
        """Go."""
        self._socket.close()


def test_no_request_about_groups_hurts_their_coordinator(tmp_path: Path) -> None:
    broker = Tailrace(tmp_path, {"num.partitions": "3"})
    broker.start()
    try:
        producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap})
        producer.produce(TOPIC, b"x")
        assert producer.flush(30) == 0
        consume_one(broker.bootstrap, "before")
        before = tree(broker.pid)
        nuisance = Nuisance(wire.address(broker.bootstrap), seed=7)
        for _ in range(REQUESTS):
            nuisance.send_one()
        nuisance.close()
        assert set(before) <= set(tree(broker.pid)), "a process died"
        consume_one(broker.bootstrap, "after")
        assert "Traceback" not in broker.log_file.read_text()
    finally:
        broker.stop()


def consume_one(bootstrap: str, group: str) -> None:
    """A member of a new group gets the record."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest"}
    )
    try:
        consumer.subscribe([TOPIC])
        wait_until(lambda: consumer.poll(0.1) is not None, "a record")
    finally:
        consumer.close()
