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


class MorePartitions(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """One topic of a CreatePartitions request: how many it shall have in all.

    `assignments` are the broker ids of each new partition; None: the controller places them.
    """

    name: str
    count: int
    assignments: list[list[int]] | None = None


SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3  # Kafka's AlterConfigOp


class ConfigChange(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """What is to become of one key; a deletion looks at no value."""

    key: str
    operation: int
    value: str | None


class ResourceChange(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """One resource of an IncrementalAlterConfigs or AlterConfigs request."""

    resource_type: int
    name: str
    changes: list[ConfigChange]


class ConfigResult(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """What became of one resource."""

    error_code: int = 0
    error_message: str | None = None


class IsrProposal(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """What the leader of a partition asks its in-sync set to be (AlterPartition).

    `isr` are pairs of broker id and the epoch of that broker as the leader knows it, -1 if it does not.
    """

    topic_id: bytes
    partition: int
    leader_epoch: int
    partition_epoch: int
    isr: list[tuple[int, int]]


class IsrResult(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """What became of a proposal; without an error the partition as it is then."""

    topic_id: bytes
    partition: int
    error_code: int = 0
    leader: int = -1
    leader_epoch: int = -1
    partition_epoch: int = -1
    isr: tuple[int, ...] = ()


class Reassignment(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """Where the replicas of a partition shall be, the preferred leader first; None: cancel the move."""

    topic: str
    partition: int
    replicas: tuple[int, ...] | None


class OngoingReassignment(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """A partition whose replicas are being moved."""

    topic: str
    partition: int
    replicas: tuple[int, ...]
    adding: tuple[int, ...]
    removing: tuple[int, ...]


class PartitionResult(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """What became of one asked partition."""

    topic: str
    partition: int
    error_code: int = 0
    error_message: str | None = None


class DirectoryResult(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """What became of a replica that was said to lie in a log directory."""

    directory: str
    topic_id: bytes
    partition: int
    error_code: int = 0
