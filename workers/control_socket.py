"""What the command line asks of a supervisor: `{run_dir}/control.sock`, 0600 in a directory that is 0700.

One question a connection, a line of JSON, and a line of JSON back, perhaps much later:

    {"do": "list"}                      {"brokers": [{"node_id", "state", "bootstrap", "pids"}, ...]}
    {"do": "stop", "broker": 1}         the same, once it has stopped; "start", "kill" likewise
    what cannot be done                 {"error": "..."}

The supervisor waits for nobody: who asks slowly, or does not read, costs a descriptor, and is closed when
ASKERS_MAX others have come.
"""

import os
import select
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

import msgspec

NAME = "control.sock"
ASKERS_MAX = 16
QUESTION_BYTES_MAX = 1024
ANSWER_BYTES_MAX = 1 << 20
STOP, START, KILL, LIST = "stop", "start", "kill", "list"


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked for."""

    do: str
    broker: int = -1


class BrokerState(msgspec.Struct, kw_only=True, frozen=True):
    """A broker as `tailrace broker list` shows it: starting, running, stopping or stopped."""

    node_id: int
    state: str
    bootstrap: str
    unix: str
    pids: list[int]


class Answer(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """All brokers after it was done, or why it was not."""

    brokers: list[BrokerState] = []
    error: str = ""


class ControlError(OSError):
    """The supervisor refused, or is not there: one line."""


class Asker:
    """One connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = b""
        self.has_asked = False


class ControlSocket:
    """The supervisor's end; its descriptors are in the supervisor's epoll."""

    def __init__(
        self, run_dir: str, poll: select.epoll, on_question: Callable[[Asker, Question], None]
    ) -> None:
        """`on_question` answers by `answer`, now or later."""
        self._poll = poll
        self._on_question = on_question
        self._askers: dict[int, Asker] = {}
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        try:
            with _short_path(run_dir) as path:
                self._listening.bind(path)
        finally:
            os.umask(before)
        self._listening.listen(ASKERS_MAX)
        poll.register(self._listening.fileno(), select.EPOLLIN)

    def __contains__(self, descriptor: int) -> bool:
        return descriptor == self._listening.fileno() or descriptor in self._askers

    def on_event(self, descriptor: int) -> None:
        """One of its descriptors has something."""
        asker = self._askers.get(descriptor)
        if asker is None:
            self._accept()
        else:
            self._read(asker)

    def answer(self, asker: Asker, answer: Answer) -> None:
        """Answer and close, if it is still there."""
        if self._askers.get(asker.sock.fileno()) is asker:
            with suppress(OSError):  # it has gone, or does not read: its loss
                asker.sock.send(msgspec.json.encode(answer) + b"\n")
            self._drop(asker)

    def close(self) -> None:
        """Hear nobody any more; also in a child, which must not hold these."""
        for asker in self._askers.values():
            asker.sock.close()
        self._askers.clear()
        self._listening.close()

    def _accept(self) -> None:
        try:
            sock, _ = self._listening.accept()
        except OSError:  # gone already, or no descriptor is free
            return
        sock.setblocking(False)
        if len(self._askers) >= ASKERS_MAX:
            self._drop(next(iter(self._askers.values())))
        self._askers[sock.fileno()] = Asker(sock)
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def _read(self, asker: Asker) -> None:
        try:
            data = asker.sock.recv(QUESTION_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        asker.received += data
        if not data or asker.has_asked or len(asker.received) > QUESTION_BYTES_MAX:
            self._drop(asker)
        elif b"\n" in asker.received:
            asker.has_asked = True
            try:
                question = msgspec.json.decode(asker.received, type=Question)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self.answer(asker, Answer(error=str(error)))
            else:
                self._on_question(asker, question)

    def _drop(self, asker: Asker) -> None:
        descriptor = asker.sock.fileno()
        del self._askers[descriptor]
        self._poll.unregister(descriptor)
        asker.sock.close()


@contextmanager
def _short_path(run_dir: str) -> Generator[str]:
    """A name of the socket that is never longer than the 107 bytes which a socket's address has."""
    directory = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{NAME}"
    finally:
        os.close(directory)


def ask(run_dir: str, question: Question, timeout_s: float) -> Answer:
    """Ask the supervisor of a run; ControlError when it is not there, refuses, or takes longer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        received = b""
        try:
            with _short_path(run_dir) as path:
                sock.connect(path)
            sock.sendall(msgspec.json.encode(question) + b"\n")
            while not received.endswith(b"\n") and len(received) < ANSWER_BYTES_MAX:
                data = sock.recv(65536)
                if not data:
                    break
                received += data
        except TimeoutError:
            raise ControlError(f"no answer within {timeout_s:g} s; it is still being done") from None
        except OSError as error:
            raise ControlError(f"the supervisor does not answer: {error.strerror}") from error
    if not received:
        raise ControlError("the supervisor has gone without an answer")
    answer = msgspec.json.decode(received, type=Answer)
    if answer.error:
        raise ControlError(answer.error)
    return answer
