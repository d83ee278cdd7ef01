"""Topics that come and go all the time, while those who decide about them die."""

from collections import deque
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.support.history_check import History
from tests.support.history_clients import PATIENCE_S, Client
from tests.support.waiting import wait_until

confluent_kafka: Any = import_module("confluent_kafka")
admin: Any = import_module("confluent_kafka.admin")
KEPT = 3  # topics at once
NAME = "churn"


class Churn(Client):
    """Makes a topic, deletes the oldest. What gets no answer is asked again: it may have been done."""

    def __init__(self, history: History, bootstrap: str, replicas: int) -> None:
        super().__init__(history, "churn of topics")
        self._replicas = replicas
        self._admin: Any = admin.AdminClient(
            {"bootstrap.servers": bootstrap, "reconnect.backoff.max.ms": 200, "log_level": 0}
        )
        self._there: deque[str] = deque()
        self.made = 0

    def live(self) -> None:
        while not self.stopping.is_set():
            self._make()
            while len(self._there) > KEPT:
                self._remove()
        while self._there:
            self._remove()

    def _make(self) -> None:
        name = f"{NAME}-{self.made}"
        new = admin.NewTopic(name, num_partitions=2, replication_factor=self._replicas)
        self._until_done(lambda: self._admin.create_topics([new], request_timeout=5.0)[name], _IS_THERE)
        self._there.append(name)
        self.made += 1

    def _remove(self) -> None:
        name = self._there[0]
        self._until_done(lambda: self._admin.delete_topics([name], request_timeout=5.0)[name], _IS_GONE)
        self._there.popleft()

    def _until_done(self, ask: Any, done_before: int) -> None:
        said: list[Any] = []

        def is_done() -> bool:
            try:
                ask().result()
            except confluent_kafka.KafkaException as error:
                said.append(error)
                self.pause()
                return bool(error.args[0].code() == done_before)
            return True

        try:
            wait_until(is_done, "an answer about a topic", PATIENCE_S)
        except AssertionError as error:
            raise TimeoutError(f"{error}: {said[-1]}") from None


_IS_THERE = confluent_kafka.KafkaError.TOPIC_ALREADY_EXISTS
_IS_GONE = confluent_kafka.KafkaError.UNKNOWN_TOPIC_OR_PART


def directories_left(data: Path) -> list[str]:
    """Of topics that were deleted, in all log directories, but for those that a start has set aside, and
    empty ones, which the next start removes.
    """
    found = [path for path in data.glob(f"**/{NAME}-*") if path.is_dir() and any(path.iterdir())]
    return [str(path) for path in found if not path.name.endswith("-stray")]
