"""DescribeLogDirs (35): what lies in the log directories.

Version 3 brought an error for the whole response, 4 the volume's bytes, 5 whether new logs are kept away.
"""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    Bool,
    Int16,
    Int32,
    Int64,
    String,
    message,
    since,
)


class DescribeLogDirsRequestTopic(Struct, gc=False):
    """The partitions of one topic."""

    topic: String = ""
    partitions: list[Int32] = []


@message(versions=(1, 5), flexible=2)
class DescribeLogDirsRequest(Struct, gc=False):
    """Which logs; null means all."""

    topics: list[DescribeLogDirsRequestTopic] | None = None


class DescribeLogDirsResponsePartition(Struct, gc=False):
    """One log."""

    partition_index: Int32 = 0
    partition_size: Int64 = 0
    offset_lag: Int64 = 0
    is_future_key: Bool = False


class DescribeLogDirsResponseTopic(Struct, gc=False):
    """The partitions of one topic."""

    name: String = ""
    partitions: list[DescribeLogDirsResponsePartition] = []


class DescribeLogDirsResponseResult(Struct, gc=False):
    """One log directory."""

    error_code: Int16 = 0
    log_dir: String = ""
    topics: list[DescribeLogDirsResponseTopic] = []
    total_bytes: Annotated[Int64, since(4), IGNORABLE] = -1
    usable_bytes: Annotated[Int64, since(4), IGNORABLE] = -1
    is_cordoned: Annotated[Bool, since(5), IGNORABLE] = False


@message(versions=(1, 5), flexible=2)
class DescribeLogDirsResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Int32 = 0
    error_code: Annotated[Int16, since(3), IGNORABLE] = 0
    results: list[DescribeLogDirsResponseResult] = []
