"""AlterReplicaLogDirs (34): move logs of one broker to other log directories of it."""

from msgspec import Struct

from tailrace.core.protocol.schema import Int16, Int32, String, message


class AlterReplicaLogDirsRequestTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: String = ""
    partitions: list[Int32] = []


class AlterReplicaLogDirsRequestDir(Struct, gc=False):
    """What a directory is to hold."""

    path: String = ""
    topics: list[AlterReplicaLogDirsRequestTopic] = []


@message(versions=(1, 2), flexible=2)
class AlterReplicaLogDirsRequest(Struct, gc=False):
    """What to move where."""

    dirs: list[AlterReplicaLogDirsRequestDir] = []


class AlterReplicaLogDirsResponsePartition(Struct, gc=False):
    """Whether the move began."""

    partition_index: Int32 = 0
    error_code: Int16 = 0


class AlterReplicaLogDirsResponseTopic(Struct, gc=False):
    """The partitions of one topic."""

    topic_name: String = ""
    partitions: list[AlterReplicaLogDirsResponsePartition] = []


@message(versions=(1, 2), flexible=2)
class AlterReplicaLogDirsResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Int32 = 0
    results: list[AlterReplicaLogDirsResponseTopic] = []
