"""DeleteTopics (20). Version 6 may name topics by id."""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    NO_ID,
    Int16,
    Int32,
    NullableString,
    String,
    Uuid,
    message,
    nullable,
    since,
    upto,
)


class DeleteTopicsRequestTopic(Struct, gc=False):
    """A topic to delete, by name or by id."""

    name: NullableString = None
    topic_id: Uuid = NO_ID


@message(versions=(1, 6), flexible=4)
class DeleteTopicsRequest(Struct, gc=False):
    """Topics to delete."""

    topics: Annotated[list[DeleteTopicsRequestTopic], since(6)] = []
    topic_names: Annotated[list[String], upto(5), IGNORABLE] = []
    timeout_ms: Int32 = 0


class DeleteTopicsResponseTopic(Struct, gc=False):
    """What became of one topic."""

    name: Annotated[NullableString, nullable(6)] = ""
    topic_id: Annotated[Uuid, since(6), IGNORABLE] = NO_ID
    error_code: Int16 = 0
    error_message: Annotated[NullableString, since(5), IGNORABLE] = None


@message(versions=(1, 6), flexible=4)
class DeleteTopicsResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Annotated[Int32, since(1), IGNORABLE] = 0
    responses: list[DeleteTopicsResponseTopic] = []
