"""What a supervisor hears on its socket, and from whom it hears nothing."""

import os
import select
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.workers.control_socket import (
    ASKERS_MAX,
    NAME,
    QUESTION_BYTES_MAX,
    Answer,
    Asker,
    BrokerState,
    ControlError,
    ControlSocket,
    Question,
    ask,
)

STATE = BrokerState(node_id=1, state="running", bootstrap="h:1", unix="", pids=[5])


class End:
    """The supervisor's end, and its loop."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = str(run_dir)
        self.poll = select.epoll()
        self.asked: list[tuple[Asker, Question]] = []
        self.socket = ControlSocket(
            self.run_dir, self.poll, lambda asker, what: self.asked.append((asker, what))
        )
        self.clients: list[socket.socket] = []

    def _on_question(self, asker: Asker, question: Question) -> None:
        self.asked.append((asker, question))

    def turn(self) -> None:
        """Take what is there."""
        while found := self.poll.poll(0):
            for descriptor, _ in found:
                assert descriptor in self.socket
                self.socket.on_event(descriptor)

    def dial(self) -> socket.socket:
        """A client that has been accepted."""
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.clients.append(client)
        client.settimeout(20)
        directory = os.open(self.run_dir, os.O_PATH)
        client.connect(f"/proc/self/fd/{directory}/{NAME}")
        os.close(directory)
        self.turn()
        return client

    def close(self) -> None:
        """Everything."""
        self.socket.close()
        self.poll.close()
        for client in self.clients:
            client.close()


@pytest.fixture
def end(tmp_path: Path) -> Iterator[End]:
    """In a directory whose path is longer than a socket's address."""
    run_dir = tmp_path / ("x" * 120)
    run_dir.mkdir()
    made = End(run_dir)
    try:
        yield made
    finally:
        made.close()


def test_a_question_is_answered_later_and_the_connection_closed(end: End) -> None:
    client = end.dial()
    client.sendall(b'{"do":"st')
    end.turn()
    client.sendall(b'op","broker":1}\n')
    end.turn()
    ((asker, what),) = end.asked
    assert what == Question("stop", 1)
    end.socket.answer(asker, Answer(brokers=[STATE]))
    assert client.recv(1000).endswith(b'"pids":[5]}]}\n')
    assert client.recv(1000) == b""


def test_nobody_else_may_ask(end: End) -> None:
    assert stat.S_IMODE(os.stat(os.path.join(end.run_dir, NAME)).st_mode) == 0o600


@pytest.mark.parametrize("text", [b"\n", b"{}\n", b'{"do":1}\n', b'{"do":"list","x":1}\n', b"\xff\n"])
def test_what_is_no_question_is_refused(end: End, text: bytes) -> None:
    client = end.dial()
    client.sendall(text)
    end.turn()
    assert client.recv(1000).startswith(b'{"error":')
    assert not end.asked


def test_who_says_too_much_or_goes_is_forgotten(end: End) -> None:
    client = end.dial()
    client.sendall(bytes(QUESTION_BYTES_MAX + 1))
    end.turn()
    assert client.recv(10) == b""
    gone = end.dial()
    gone.sendall(b'{"do":"list"}\n')
    end.turn()
    gone.close()
    end.turn()
    ((asker, _),) = end.asked
    end.socket.answer(asker, Answer())  # nobody hears it


def test_the_first_of_too_many_is_closed(end: End) -> None:
    first = end.dial()
    for _ in range(ASKERS_MAX - 1):
        end.dial()
    last = end.dial()
    assert first.recv(10) == b""
    last.sendall(b'{"do":"list"}\n')
    end.turn()
    assert len(end.asked) == 1


def test_who_asks_is_given_the_answer_or_told_why_not(end: End) -> None:
    def serve(answer: Answer | None) -> None:
        while not end.asked:
            end.poll.poll(20)
            end.turn()
        asker, _ = end.asked.pop()
        if answer is None:
            end.socket.close()
        else:
            end.socket.answer(asker, answer)

    for answer, said in ((Answer(brokers=[STATE]), ""), (Answer(error="no such"), "no such"), (None, "gone")):
        thread = threading.Thread(target=serve, args=(answer,))
        thread.start()
        try:
            if said:
                with pytest.raises(ControlError, match=said):
                    ask(end.run_dir, Question("list"), 20.0)
            else:
                assert ask(end.run_dir, Question("list"), 20.0).brokers == [STATE]
        finally:
            thread.join()
    with pytest.raises(ControlError, match="does not answer"):
        ask(end.run_dir, Question("list"), 20.0)
