"""What the processes of one host say to each other on their byte rings.

Every message is a msgpack array that starts with its tag. Both ends are always of the same build (one fork
tree), so there are no versions. Who says what:

    controller -> worker       ServeReplica StopReplica ConfigureReplica LogDirFailed ReportReplicas
                               ResignLeadership PartitionAltered CompleteMove
    worker     -> controller   ReplicaStarted ReplicaFailed ReplicaStopped Replicas Resigned AlterPartition
                               CopyMade MoveEnded
    gateway    -> controller   Hello CreateTopics DeleteTopics CreatePartitions AlterConfigs
                               AllocateProducerIds ElectLeaders Reassign UnregisterBroker
                               MoveReplicas DescribeQuorum AddVoter RemoveVoter
    controller -> gateway      TopicResults ConfigResults ProducerIds PartitionResults Assigned Unassigned
                               QuorumDescribed VotersChanged
    controller -> supervisor   WantWorker RetireWorker BrokerMayStop
    supervisor -> controller   ShutDownBroker
    supervisor -> controllers  WorkerDied
    worker     -> housekeeper  Prefault

The controller is the one that is active, of whichever broker; supervisor, workers and gateways tell no other,
but for deaths, which all are told. It speaks to the workers and gateways of every broker.

A message is lost only with the death of its sender or receiver (`workers/outbox.py`). Whoever waits for an
answer keeps the incarnation it asked and asks the next one again.
"""

import msgspec

from tailrace.core.metadata.requests import (
    ConfigResult,
    MorePartitions,
    NewTopic,
    PartitionResult,
    Reassignment,
    ResourceChange,
    TopicResult,
    TopicToDelete,
)
from tailrace.workers.control_moves import CompleteMove, CopyMade, MoveEnded, MoveReplicas
from tailrace.workers.control_quorum import (
    AddVoter,
    DescribeQuorum,
    QuorumDescribed,
    RemoveVoter,
    VotersChanged,
)


class ServeReplica(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=1):
    """Open (or make, when `is_new`) the log of this replica, and lead it or follow its leader, publishing to
    `row`.

    The worker answers ReplicaStarted once the row shows that, or ReplicaFailed. The same row and generation
    again says what has changed: the leader and its epoch, or only who is in sync. It is led where `leader` is
    the broker of the worker. Epochs below those known are no news; equal ones are answered again.
    """

    topic: str
    topic_id: bytes
    partition: int
    row: int
    row_generation: int
    leader_epoch: int
    log_dir: str
    configs: dict[str, str]
    is_new: bool
    leader: int  # broker id, -1: there is none
    leader_slot: int = 0  # its process, once it has published that it leads in this epoch; 0: not yet
    leader_incarnation: int = 0
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    partition_epoch: int
    lineage: int = -1  # leader epoch of the last unclean election
    rows: tuple[int, ...] = ()  # of all replicas there are: a new leader asks them for the high watermark
    leader_log_dir: str = ""  # where the leader's replica lies
    copy_rate: int = 0  # bytes a second that it may copy while it is out of sync; 0: as many as it can
    future_log_dir: str = ""  # where it is to move to; empty: it stays
    future_rate: int = 0  # bytes a second that it may copy there; 0: as many as it can


class StopReplica(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=2):
    """Close the replica on `row` (or delete its files as well) and answer ReplicaStopped, also when it is not
    held.
    """

    topic: str
    topic_id: bytes
    partition: int
    row: int
    row_generation: int
    log_dir: str
    delete: bool


class ReportReplicas(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=3):
    """A new controller asks what this worker holds. The answer is Replicas."""


class ConfigureReplica(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=8):
    """From now on the log on `row` has these topic configs, if it is held; no answer."""

    row: int
    row_generation: int
    configs: dict[str, str]


class LogDirFailed(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=9):
    """This log directory is out of service: let go of every replica in it, without touching its files. The
    worker answers with one ReplicaFailed for each.
    """

    log_dir: str


class ReplicaStarted(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=4):
    """The replica on `row` has recovered, its row is published, it serves in `leader_epoch`."""

    row: int
    row_generation: int
    leader_epoch: int


class ReplicaFailed(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=5):
    """The replica on `row` could not be opened, or lost its log directory. The worker no longer holds it.

    is_full: there was no room to open it, which changed nothing.
    """

    row: int
    row_generation: int
    error_code: int
    message: str
    is_full: bool = False


class ReplicaStopped(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=6):
    """The replica on `row` is closed (and deleted, if so asked); the row may be given to another one."""

    row: int
    row_generation: int


class HeldReplica(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """One replica that a worker holds, whether it serves yet (`started`) or still recovers."""

    topic: str
    topic_id: bytes
    partition: int
    row: int
    row_generation: int
    leader_epoch: int
    log_dir: str
    started: bool
    leads: bool = True  # in that epoch, and has not resigned it
    partition_epoch: int = -1  # the newest that it was told
    future_log_dir: str = ""  # as in its order


class Replicas(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=7):
    """All the replicas that this worker holds or is opening, in answer to ReportReplicas.

    One that is still opening (`started` false) is followed by its ReplicaStarted or ReplicaFailed to the
    controller that asked, not to the dead one that ordered it.
    """

    replicas: list[HeldReplica]


class ResignLeadership(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=33):
    """Another is to lead: append and acknowledge no more in this leader epoch, publish the row a last time
    and answer Resigned, also when it is not led (R): only then may another epoch be committed.
    """

    row: int
    row_generation: int
    leader_epoch: int


class Resigned(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=34):
    """The replica on `row` does not lead in this epoch, or an earlier one, and never will."""

    row: int
    row_generation: int
    leader_epoch: int


class AlterPartition(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=35):
    """The leader on `row` proposes who is in sync. Answered by PartitionAltered."""

    row: int
    row_generation: int
    topic_id: bytes
    partition: int
    leader_epoch: int
    partition_epoch: int
    isr: tuple[int, ...]
    attempt: int = 1


class PartitionAltered(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=36):
    """What became of the proposal that named this partition epoch; the state is that which is committed, of
    no meaning with an error.
    """

    row: int
    row_generation: int
    proposed: int  # the partition epoch in the proposal
    error_code: int
    replicas: tuple[int, ...] = ()
    isr: tuple[int, ...] = ()
    partition_epoch: int = -1
    attempt: int = 1  # that is answered


class Hello(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=10):
    """A gateway that has just started asks for every assignment; each comes as one Assigned."""


class CreateTopics(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=11):
    """Answered by TopicResults with one result a topic, in the order asked.

    `automatic`: made because a client named it (auto.create.topics.enable), which allows internal topics.
    """

    request_id: int
    topics: list[NewTopic]
    validate_only: bool
    timeout_ms: int
    automatic: bool = False


class DeleteTopics(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=12):
    """Answered by TopicResults with one result a topic, in the order asked."""

    request_id: int
    topics: list[TopicToDelete]
    timeout_ms: int


class AllocateProducerIds(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=13):
    """A gateway asks for a block of producer ids of its own. Answered by ProducerIds."""

    request_id: int


class CreatePartitions(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=14):
    """Answered by TopicResults with one result a topic, in the order asked."""

    request_id: int
    topics: list[MorePartitions]
    validate_only: bool


class AlterConfigs(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=15):
    """Answered by ConfigResults with one result a resource, in the order asked.

    `replaces_all`: configs that are not named are removed.
    """

    request_id: int
    resources: list[ResourceChange]
    validate_only: bool
    replaces_all: bool


class TopicResults(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=20):
    """The gateway answers its client once its own image has reached `metadata_offset` (`image.metadata_offset
    >=` it).
    """

    request_id: int
    metadata_offset: int
    results: list[TopicResult]


class ConfigResults(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=24):
    """As TopicResults, of configs."""

    request_id: int
    metadata_offset: int
    results: list[ConfigResult]


class ProducerIds(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=21):
    """The ids first_producer_id .. first_producer_id + count - 1 are the asker's; count 0 comes with an error
    code.
    """

    request_id: int
    first_producer_id: int
    count: int
    error_code: int


class ReplicaPlace(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """Where a replica of a partition is: its row tells whether it serves yet."""

    broker: int
    row: int
    row_generation: int
    worker_slot: int
    log_dir: str


class Assigned(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=22):
    """The leader of this partition has published `row`: the gateway of its broker may send requests to that
    incarnation of that worker, the others know who leads.

    It says nothing about later deaths: the gateway compares with the slot table. A newer Assigned replaces
    this one; one with a lower leader epoch than the gateway knows is dropped. It comes again, in the same
    epoch, when a replica has moved to another row.
    """

    topic: str
    topic_id: bytes
    partition: int
    broker: int  # the leader's id
    row: int
    row_generation: int
    worker_slot: int
    worker_incarnation: int
    leader_epoch: int
    log_dir: str
    replicas: tuple[ReplicaPlace, ...] = ()  # all that are given to a worker, the leader among them


class Unassigned(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=23):
    """This partition is led by nobody until the next Assigned; `error_code` is what its requests are
    answered.

    NOT_LEADER_OR_FOLLOWER: its broker is gone. UNKNOWN_TOPIC_OR_PARTITION: deleted. KAFKA_STORAGE_ERROR:
    quarantined, or its log directory failed.
    """

    topic_id: bytes
    partition: int
    error_code: int


class WantWorker(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=30):
    """Keep a worker process in this slot, restarting it with back-off, until RetireWorker."""

    slot: int


class RetireWorker(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=31):
    """Nothing is assigned to this slot any more: stop its process cleanly and leave the slot empty."""

    slot: int


class WorkerDied(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=32):
    """Sent before the death is stored in the slot table; `row` is the one it was touching, -1 for none.

    `signal` is what killed it, 0 when it exited by itself.
    """

    slot: int
    incarnation: int
    row: int
    signal: int


class ShutDownBroker(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=80):
    """This broker is about to be stopped: others are to lead in its place. Answered by BrokerMayStop once it
    leads nothing that another could; said again to the next controller, as long as it was not.
    """

    broker: int  # its id


class BrokerMayStop(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=81):
    """The broker leads nothing any more, and that is committed; or no other can lead what is left."""

    broker: int


class Prefault(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=40):
    """Touch these pages of the file, so that the worker's next stores find them warm. Losing one costs only
    time.
    """

    path: str
    position: int
    length: int


class Raft(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=50):
    """From a controller to another: a message of the quorum, encoded (core/raft/messages.py)."""

    data: bytes


class ElectLeaders(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=70):
    """Answered by PartitionResults; `partitions` by topic and index, None: all there are."""

    request_id: int
    election_type: int
    partitions: list[tuple[str, int]] | None


class Reassign(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=71):
    """Answered by PartitionResults, one a move, in the order asked: whether it has begun."""

    request_id: int
    moves: list[Reassignment]
    replication_factor_may_change: bool


class UnregisterBroker(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=72):
    """Answered by PartitionResults without any."""

    request_id: int
    broker_id: int


class PartitionResults(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=73):
    """As TopicResults, of partitions; with an error of the whole request there are none."""

    request_id: int
    metadata_offset: int
    results: list[PartitionResult] = []
    error_code: int = 0
    error_message: str | None = None


Message = (
    ServeReplica
    | StopReplica
    | ConfigureReplica
    | LogDirFailed
    | ReportReplicas
    | ReplicaStarted
    | ReplicaFailed
    | ReplicaStopped
    | Replicas
    | Hello
    | CreateTopics
    | DeleteTopics
    | CreatePartitions
    | AlterConfigs
    | AllocateProducerIds
    | TopicResults
    | ConfigResults
    | ProducerIds
    | Assigned
    | Unassigned
    | WantWorker
    | RetireWorker
    | WorkerDied
    | Prefault
    | Raft
    | ResignLeadership
    | Resigned
    | AlterPartition
    | PartitionAltered
    | ElectLeaders
    | Reassign
    | UnregisterBroker
    | PartitionResults
    | ShutDownBroker
    | BrokerMayStop
    | DescribeQuorum
    | AddVoter
    | RemoveVoter
    | QuorumDescribed
    | VotersChanged
    | MoveReplicas
    | CopyMade
    | CompleteMove
    | MoveEnded
)

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Message).decode
