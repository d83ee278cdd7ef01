"""One deadline a name: a session, a rebalance."""

from collections.abc import Callable

from tailrace.core.timers import Timers


class Deadlines:
    """Deadlines by name, of which a later one for a name takes the place of the one before."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._tokens: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tokens

    def set(self, name: str, deadline_ms: int, callback: Callable[[], None]) -> None:
        """Have `callback` run at the deadline, unless it is set anew or cancelled before."""
        self.cancel(name)

        def due() -> None:
            del self._tokens[name]
            callback()

        self._tokens[name] = self._timers.schedule(deadline_ms, due)

    def cancel(self, name: str) -> None:
        """Forget the deadline, if there is one."""
        token = self._tokens.pop(name, None)
        if token is not None:
            self._timers.cancel(token)

    def cancel_all(self) -> None:
        """Forget them all."""
        for name in list(self._tokens):
            self.cancel(name)
