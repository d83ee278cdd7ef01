"""A broker whose replicas move between its log directories."""

import os
from pathlib import Path

from tailrace.clients.cluster import Cluster
from tailrace.core.protocol.apis import ALTER_REPLICA_LOG_DIRS
from tailrace.core.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsRequestDir,
    AlterReplicaLogDirsRequestTopic,
    AlterReplicaLogDirsResponse,
)
from tailrace.core.protocol.messages.describe_log_dirs import DescribeLogDirsResponsePartition
from tests.support.log_dirs import Broker
from tests.support.waiting import wait_until


class Mover(Broker):
    """What is asked of it, and what it shows."""

    def move(self, topic: str, log_dir: Path, partition: int = 0) -> int:
        """The error code."""
        asked = AlterReplicaLogDirsRequest(
            [
                AlterReplicaLogDirsRequestDir(
                    str(log_dir), [AlterReplicaLogDirsRequestTopic(topic, [partition])]
                )
            ]
        )
        with Cluster(self.bootstrap) as cluster:
            answer = cluster.any_connection().request(
                ALTER_REPLICA_LOG_DIRS, asked, AlterReplicaLogDirsResponse
            )
        ((found,),) = (topic.partitions for topic in answer.results)
        return found.error_code

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

    def names(self, topic: str) -> list[str]:
        """All directories of it."""
        return sorted(
            f"{path.name}/{name}"
            for path in self.dirs
            if path.exists()
            for name in os.listdir(path)
            if name.startswith(f"{topic}-0")
        )
