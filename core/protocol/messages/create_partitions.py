"""CreatePartitions (37): more partitions for topics that exist."""

from msgspec import Struct

from tailrace.core.protocol.schema import (
    Bool,
    Int16,
    Int32,
    NullableString,
    String,
    message,
)


class CreatePartitionsRequestAssignment(Struct, gc=False):
    """The brokers of one new partition."""

    broker_ids: list[Int32] = []


class CreatePartitionsRequestTopic(Struct, gc=False):
    """How many partitions a topic shall have; null assignments leave the placement to the broker."""

    name: String = ""
    count: Int32 = 0
    assignments: list[CreatePartitionsRequestAssignment] | None = None


@message(versions=(0, 3), flexible=2)
class CreatePartitionsRequest(Struct, gc=False):
    """Topics to grow, or only to check."""

    topics: list[CreatePartitionsRequestTopic] = []
    timeout_ms: Int32 = 0
    validate_only: Bool = False


class CreatePartitionsResponseResult(Struct, gc=False):
    """What became of one topic."""

    name: String = ""
    error_code: Int16 = 0
    error_message: NullableString = None


@message(versions=(0, 3), flexible=2)
class CreatePartitionsResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Int32 = 0
    results: list[CreatePartitionsResponseResult] = []
