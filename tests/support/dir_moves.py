"""A broker whose replicas move between its log directories."""

import os
from pathlib import Path

from tailrace.clients.cluster import Cluster
from tailrace.clients.connection import Connection
from tailrace.core.config_dynamic import ALTER_DIRS_RATE
from tailrace.core.errors import NONE
from tailrace.core.metadata.requests import SET
from tailrace.core.protocol.apis import ALTER_REPLICA_LOG_DIRS, INCREMENTAL_ALTER_CONFIGS
from tailrace.core.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsRequestDir,
    AlterReplicaLogDirsRequestTopic,
    AlterReplicaLogDirsResponse,
)
from tailrace.core.protocol.messages.describe_log_dirs import DescribeLogDirsResponsePartition
from tailrace.core.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsRequestConfig,
    IncrementalAlterConfigsRequestResource,
    IncrementalAlterConfigsResponse,
)
from tests.support.log_dirs import Broker
from tests.support.waiting import wait_until


class Mover(Broker):
    """What is asked of it, and what it shows."""

    @property
    def bootstrap(self) -> str:
        """Of the first broker."""
        return super().bootstrap.split(",")[0]

    def move(self, topic: str, log_dir: Path, partition: int = 0, broker: int = 0) -> int:
        """The error code."""
        asked = AlterReplicaLogDirsRequest(
            [
                AlterReplicaLogDirsRequestDir(
                    str(log_dir), [AlterReplicaLogDirsRequestTopic(topic, [partition])]
                )
            ]
        )
        with self.connection(broker) as connection:
            answer = connection.request(ALTER_REPLICA_LOG_DIRS, asked, AlterReplicaLogDirsResponse)
        ((found,),) = (topic.partitions for topic in answer.results)
        return found.error_code

    def connection(self, broker: int) -> Connection:
        """To the broker of this id."""
        with Cluster(self.bootstrap) as cluster:
            (found,) = (each for each in cluster.metadata([]).brokers if each.node_id == broker)
        return Connection(f"{found.host}:{found.port}")

    def throttle(self, rate: int) -> None:
        """Bytes a second that its moves may copy together."""
        config = IncrementalAlterConfigsRequestConfig(ALTER_DIRS_RATE, SET, str(rate))
        asked = IncrementalAlterConfigsRequest([IncrementalAlterConfigsRequestResource(4, "", [config])])
        with Cluster(self.bootstrap) as cluster:
            answer = cluster.any_connection().request(
                INCREMENTAL_ALTER_CONFIGS, asked, IncrementalAlterConfigsResponse
            )
        assert [(each.error_code, each.error_message) for each in answer.responses] == [(0, None)]

    def begin_move(self, topic: str, rate: int) -> Path:
        """Slowly to another directory; returns which, when some of it is copied and much is not."""
        self.throttle(rate)
        target = self.other_dir(topic)
        assert self.move(topic, target) == NONE
        wait_until(lambda: self.is_moving(topic, target), "a part of the copy")
        return target

    def is_moving(self, topic: str, target: Path) -> bool:
        """Whether there is a copy that has a part."""
        copy = self.places(topic).get(target)
        return copy is not None and copy.is_future_key and copy.partition_size > 0 and copy.offset_lag > 0

    def other_dir(self, topic: str) -> Path:
        """The first directory in which it does not lie."""
        return next(path for path in self.dirs if path != self.dir_of(topic))

    def places(self, topic: str) -> dict[Path, DescribeLogDirsResponsePartition]:
        """What DescribeLogDirs says of its one partition."""
        return {
            Path(path): partition
            for path, result in self.described().items()
            for each in result.topics
            if each.name == topic
            for partition in each.partitions
        }

    def wait_moved(self, topic: str, log_dir: Path) -> None:
        """Until it is there, and nothing else is."""

        def is_done() -> bool:
            places = self.places(topic)
            return list(places) == [log_dir] and not places[log_dir].is_future_key

        wait_until(is_done, f"{topic} in {log_dir}")
        wait_until(lambda: self.names(topic) == [f"{log_dir.name}/{topic}-0"], "the old log to be gone")

    def broker_dirs(self) -> list[str]:
        """The log directories of all brokers."""
        return sorted(str(path) for root in self.dirs for path in root.glob("broker-*"))

    def names(self, topic: str) -> list[str]:
        """All directories of it."""
        return sorted(
            f"{path.name}/{name}"
            for path in self.dirs
            if path.exists()
            for name in os.listdir(path)
            if name.startswith(f"{topic}-0")
        )
