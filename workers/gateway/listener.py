"""Listening sockets: TCP on IPv4 and IPv6, and one Unix socket.

A port chosen by the kernel (port 0) is written to the run directory, and a restarted gateway binds it again.
"""

import errno
import os
import socket
import stat
from collections.abc import Callable
from resource import RLIMIT_NOFILE, getrlimit
from select import EPOLLIN, epoll

from tailrace.core.listeners import Listener
from tailrace.workers.process import Refusal

OnAccept = Callable[[socket.socket, str], None]
UNIX = "unix"  # the name of every peer that comes by the Unix socket
ACCEPTS_AT_ONCE = 8  # then those who are connected have their turn: an accept takes 50 us
RESERVED_DESCRIPTORS = 32  # for the log files that connected clients read, and rings to new workers
_LOST = {  # that client is lost, or its network is: accept(2) tells of its errors
    errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN,
    errno.ENONET, errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH, errno.ETIMEDOUT,
}  # fmt: skip
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listeners:
    """Accepts clients while `may_accept` says so, and hands them to `on_accept` with the peer's name.

    Else nobody is accepted until `resume`: clients wait in the kernel's queue. They do, too, when descriptors
    are short, so that those that are connected keep what they need of the last ones; `look_again` says when
    one may be free.
    """

    def __init__(self, poll: epoll, may_accept: Callable[[], bool], on_accept: OnAccept) -> None:
        self._poll = poll
        self._may_accept = may_accept
        self._on_accept = on_accept
        self._is_paused = False
        self._sockets: dict[int, socket.socket] = {}
        limit = getrlimit(RLIMIT_NOFILE)[0]
        free = limit - _lowest_free()
        self._fd_max = limit - min(RESERVED_DESCRIPTORS, free // 4)
        self.is_short = False

    def __contains__(self, fd: int) -> bool:
        """Whether it is a listening socket."""
        return fd in self._sockets

    def add(self, sock: socket.socket) -> None:
        """Accept from this one too."""
        sock.setblocking(False)
        self._sockets[sock.fileno()] = sock
        self._poll.register(sock.fileno(), EPOLLIN)

    def on_event(self, fd: int) -> None:
        """Accept what is there, as far as there are descriptors."""
        listening = self._sockets[fd]
        for _ in range(ACCEPTS_AT_ONCE):
            if not self._may_accept():
                self._is_paused = True
                self._watch()
                return
            try:
                sock, address = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _LOST:
                    continue
                if error.errno in _SHORT:
                    self.is_short = True
                    self._watch()
                    return
                raise
            is_last = sock.fileno() >= self._fd_max  # the kernel gives the lowest number that is free
            sock.setblocking(False)
            self._on_accept(sock, UNIX if listening.family == socket.AF_UNIX else str(address[0]))
            if is_last:
                self.is_short = True
                self._watch()
                return

    def _watch(self) -> None:
        events = 0 if self.is_short or self._is_paused else EPOLLIN
        for fd in self._sockets:
            self._poll.modify(fd, events)

    def resume(self) -> None:
        """Ask `may_accept` again, if it said no."""
        if self._is_paused:
            self._is_paused = False
            self._watch()

    def look_again(self) -> None:
        """Accept again if a descriptor is free."""
        try:
            lowest = _lowest_free()
        except OSError:
            return
        if lowest < self._fd_max:
            self.is_short = False
            self._watch()

    def close(self) -> None:
        """Accept nobody any more."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        self.is_short = False


def _lowest_free() -> int:
    """The number that the next descriptor gets: those below are taken."""
    probe = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    os.close(probe)
    return probe


def listen_tcp(listener: Listener, port: int, backlog: int) -> socket.socket:
    """Bind one TCP listener; Refusal in one line when that cannot be."""
    host = listener.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if not host:
        family, host = socket.AF_INET6, "::"
    try:
        if family == socket.AF_INET and not host.replace(".", "").isdigit():
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            host = str(address[0])
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise Refusal(f"cannot listen on {listener.host}:{port}: {error.strerror or error}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if not listener.host else 1)
        sock.bind((host, port))
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise Refusal(
                f"port {port} of {host} is taken: stop who listens there, or choose another with --port"
            ) from error
        raise Refusal(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return sock


def listen_unix(path: str, mode: int, backlog: int) -> socket.socket:
    """Bind the Unix socket, in place of one that a dead gateway left."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            if _answers(path):
                raise Refusal(f"{path} is in use by another process: choose another unix.socket.path")
            os.unlink(path)
    except FileNotFoundError:
        pass  # the usual case: there is none
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o777 & ~mode)
    try:
        sock.bind(path)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise Refusal(f"cannot listen on {path}: {error.strerror or error}; see unix.socket.path") from error
    finally:
        os.umask(before)
    return sock


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def remembered_port(run_dir: str, broker: int, name: str) -> int:
    """The port that an earlier gateway of this run was given for this listener, 0 if none."""
    try:
        with open(_port_path(run_dir, broker, name), encoding="utf-8") as file:
            return int(file.read())
    except FileNotFoundError:
        return 0


def remember_port(run_dir: str, broker: int, name: str, port: int) -> None:
    """Keep a chosen port for the next gateway of this run."""
    path = _port_path(run_dir, broker, name)
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(str(port))
    os.replace(path + ".new", path)


def _port_path(run_dir: str, broker: int, name: str) -> str:
    return os.path.join(run_dir, f"port-{broker}-{name}")
