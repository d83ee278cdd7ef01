"""What a gateway asks of the controller about topics, and what the controller answers.

These are values of the control plane, made from the wire's requests by the gateway; the controller sees no
wire.
"""

import msgspec

NO_TOPIC_ID = bytes(16)


class NewTopic(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """One topic of a CreateTopics request; -1 asks for the broker's default, as on the wire.

    `assignments` are pairs of partition index and broker ids; a config of None is refused, as Kafka does.
    """

    name: str
    num_partitions: int = -1
    replication_factor: int = -1
    assignments: list[tuple[int, list[int]]] = []
    configs: list[tuple[str, str | None]] = []


class TopicToDelete(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """One topic of a DeleteTopics request, named or by id (the other is None or zero)."""

    name: str | None = None
    topic_id: bytes = NO_TOPIC_ID


class TopicResult(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """What became of one asked topic; the counts are those of the topic made, -1 on an error."""

    name: str | None
    topic_id: bytes = NO_TOPIC_ID
    error_code: int = 0
    error_message: str | None = None
    num_partitions: int = -1
    replication_factor: int = -1
