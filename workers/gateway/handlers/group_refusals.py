"""What a request to a coordinator is answered when there is none, or one that is still loading: its error in
the place that the response has for it.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from tailrace.core.protocol import apis


def refusal(key: int, version: int, message: Any, error: int) -> Struct:
    """The response that says `error` to all of the request."""
    if key == apis.OFFSET_COMMIT:
        return _offset_commit(message, error)
    if key == apis.OFFSET_FETCH:
        return _offset_fetch(version, message, error)
    response = apis.APIS[key].response()
    response.error_code = error  # type: ignore[attr-defined]
    return response


def _offset_commit(message: Any, error: int) -> Struct:
    from tailrace.core.protocol.messages import offset_commit as m

    topics = [
        m.OffsetCommitResponseTopic(
            topic.name,
            topic.topic_id,
            [m.OffsetCommitResponsePartition(part.partition_index, error) for part in topic.partitions],
        )
        for topic in message.topics
    ]
    return m.OffsetCommitResponse(topics=topics)


def _offset_fetch(version: int, message: Any, error: int) -> Struct:
    from tailrace.core.protocol.messages import offset_fetch as m

    if version >= 2:
        return m.OffsetFetchResponse(error_code=error)
    topics = [
        m.OffsetFetchResponseTopic(
            topic.name,
            partitions=[
                m.OffsetFetchResponsePartition(index, -1, -1, "", error) for index in topic.partition_indexes
            ],
        )
        for topic in message.topics or ()
    ]
    return m.OffsetFetchResponse(topics=topics)
