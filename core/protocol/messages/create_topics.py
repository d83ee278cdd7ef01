"""CreateTopics (19).

From version 4 on -1 asks for the default number of partitions or replicas. Version 5 answers with the topic's
shape and configs, 7 with its id.
"""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    NO_ID,
    Bool,
    Int8,
    Int16,
    Int32,
    NullableString,
    String,
    Uuid,
    message,
    since,
    tag,
)


class CreateTopicsRequestAssignment(Struct, gc=False):
    """The brokers of one partition, if placed by hand."""

    partition_index: Int32 = 0
    broker_ids: list[Int32] = []


class CreateTopicsRequestConfig(Struct, gc=False):
    """A config to set."""

    name: String = ""
    value: NullableString = None


class CreateTopicsRequestTopic(Struct, gc=False):
    """A topic to create."""

    name: String = ""
    num_partitions: Int32 = 0
    replication_factor: Int16 = 0
    assignments: list[CreateTopicsRequestAssignment] = []
    configs: list[CreateTopicsRequestConfig] = []


@message(versions=(2, 7), flexible=5)
class CreateTopicsRequest(Struct, gc=False):
    """Topics to create, or only to check."""

    topics: list[CreateTopicsRequestTopic] = []
    timeout_ms: Int32 = 60000
    validate_only: Annotated[Bool, since(1)] = False


class CreateTopicsResponseConfig(Struct, gc=False):
    """A config as it now holds."""

    name: String = ""
    value: NullableString = None
    read_only: Bool = False
    config_source: Annotated[Int8, IGNORABLE] = -1
    is_sensitive: Bool = False


class CreateTopicsResponseTopic(Struct, gc=False):
    """What became of one topic."""

    name: String = ""
    topic_id: Annotated[Uuid, since(7), IGNORABLE] = NO_ID
    error_code: Int16 = 0
    error_message: Annotated[NullableString, since(1), IGNORABLE] = None
    topic_config_error_code: Annotated[Int16, since(5), tag(0), IGNORABLE] = 0
    num_partitions: Annotated[Int32, since(5), IGNORABLE] = -1
    replication_factor: Annotated[Int16, since(5), IGNORABLE] = -1
    configs: Annotated[list[CreateTopicsResponseConfig] | None, since(5), IGNORABLE] = []


@message(versions=(2, 7), flexible=5)
class CreateTopicsResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Annotated[Int32, since(2), IGNORABLE] = 0
    topics: list[CreateTopicsResponseTopic] = []
