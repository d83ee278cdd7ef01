"""ConsumerGroupHeartbeat and ConsumerGroupDescribe: what is refused before a group is asked, and answers."""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from tailrace.core.errors import (
    FENCED_MEMBER_EPOCH,
    INVALID_REGULAR_EXPRESSION,
    INVALID_REQUEST,
    UNSUPPORTED_ASSIGNOR,
    KafkaError,
)
from tailrace.core.groups.consumer_member import LEFT, LEFT_FOR_A_WHILE, ConsumerMember
from tailrace.core.groups.consumer_state import NO_TARGET, ConsumerState
from tailrace.core.groups.runtime import GroupRequest
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.protocol.messages.consumer_group_describe import (
    ConsumerGroupDescribeResponseAssignment,
    ConsumerGroupDescribeResponseMember,
    ConsumerGroupDescribeResponseTopicPartitions,
)
from tailrace.core.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    ConsumerGroupHeartbeatResponseAssignment,
    ConsumerGroupHeartbeatResponseTopicPartitions,
)

CLASSIC_MEMBER, CONSUMER_MEMBER = 0, 1
STRING_BYTES_MAX = 32_767  # of a string in keys of records, and in the values of classic groups


def check_heartbeat(message: ConsumerGroupHeartbeatRequest, version: int, assignors: tuple[str, ...]) -> None:
    """Raises KafkaError for what no group would accept, in the order in which Kafka looks."""
    if (version >= 1 or message.member_epoch > 0 or message.member_epoch == LEFT) and not (
        message.member_id.strip()
    ):
        raise KafkaError(INVALID_REQUEST, "MemberId can't be empty.")
    for name, text in (
        ("GroupId", message.group_id),
        ("InstanceId", message.instance_id),
        ("RackId", message.rack_id),
    ):
        if text is not None and not text.strip():
            raise KafkaError(INVALID_REQUEST, f"{name} can't be empty.")
    # (R) Keys of records have shorter strings than requests: such a group could not be written.
    if any(len(text.encode()) > STRING_BYTES_MAX for text in (message.group_id, message.member_id)):
        raise KafkaError(INVALID_REQUEST, f"An id is longer than {STRING_BYTES_MAX} bytes.")
    if len((message.subscribed_topic_regex or "").encode()) > STRING_BYTES_MAX:
        raise KafkaError(
            INVALID_REGULAR_EXPRESSION, f"SubscribedTopicRegex is longer than {STRING_BYTES_MAX} bytes."
        )
    if message.member_epoch == 0:
        _check_join(message)
    elif message.member_epoch == LEFT_FOR_A_WHILE and message.instance_id is None:
        raise KafkaError(INVALID_REQUEST, "InstanceId can't be null.")
    elif message.member_epoch < LEFT_FOR_A_WHILE:
        raise KafkaError(INVALID_REQUEST, "MemberEpoch is invalid.")
    if message.server_assignor is not None and message.server_assignor not in assignors:
        raise KafkaError(
            UNSUPPORTED_ASSIGNOR,
            f"ServerAssignor {message.server_assignor} is not supported."
            f" Supported assignors: {', '.join(assignors)}.",
        )


def _check_join(message: ConsumerGroupHeartbeatRequest) -> None:
    if message.rebalance_timeout_ms == -1:
        raise KafkaError(INVALID_REQUEST, "RebalanceTimeoutMs must be provided in first request.")
    if message.topic_partitions is None or message.topic_partitions:
        raise KafkaError(INVALID_REQUEST, "TopicPartitions must be empty when (re-)joining.")
    if message.subscribed_topic_names is None and message.subscribed_topic_regex is None:
        raise KafkaError(
            INVALID_REQUEST,
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        )


def check_epoch(member: ConsumerMember, message: ConsumerGroupHeartbeatRequest) -> None:
    """Raises KafkaError FENCED_MEMBER_EPOCH if the member lost touch.

    One epoch behind is who missed the last answer; it may go on if it owns nothing that was taken from it.
    """
    epoch = message.member_epoch
    if epoch in (0, member.member_epoch):
        return
    if epoch > member.member_epoch:
        size = "greater"
    elif epoch == member.previous_member_epoch and _owns_at_most(message, member):
        return
    else:
        size = "smaller"
    raise KafkaError(
        FENCED_MEMBER_EPOCH,
        f"The consumer group member has a {size} member epoch ({epoch}) than the one known by the group"
        f" coordinator ({member.member_epoch}). The member must abandon all its partitions and rejoin.",
    )


def _owns_at_most(message: ConsumerGroupHeartbeatRequest, member: ConsumerMember) -> bool:
    return message.topic_partitions is not None and all(
        topic.topic_id in member.assigned and member.assigned[topic.topic_id].keys() >= set(topic.partitions)
        for topic in message.topic_partitions
    )


def with_request(member: ConsumerMember, request: GroupRequest) -> ConsumerMember:
    """The member as a heartbeat describes it; what the heartbeat leaves out stays."""
    message: ConsumerGroupHeartbeatRequest = request.message
    names, pattern = message.subscribed_topic_names, message.subscribed_topic_regex
    timeout = message.rebalance_timeout_ms
    return replace(
        member,
        instance_id=member.instance_id if message.instance_id is None else message.instance_id,
        rack_id=member.rack_id if message.rack_id is None else message.rack_id,
        rebalance_timeout_ms=member.rebalance_timeout_ms if timeout == -1 else timeout,
        server_assignor=member.server_assignor
        if message.server_assignor is None
        else message.server_assignor,
        topic_names=member.topic_names if names is None else frozenset(names),
        topic_regex=member.topic_regex if pattern is None else pattern,
        client_id=request.client_id,
        client_host=request.client_host,
        classic=None,
    )


def heartbeat_answer(
    message: ConsumerGroupHeartbeatRequest, before: ConsumerMember, member: ConsumerMember, interval_ms: int
) -> ConsumerGroupHeartbeatResponse:
    """Where the member is; with what it owns if that changed, or if it told everything about itself."""
    told_all = (
        message.rebalance_timeout_ms != -1
        and (message.subscribed_topic_names is not None or message.subscribed_topic_regex is not None)
        and message.topic_partitions is not None
    )
    answer = ConsumerGroupHeartbeatResponse(
        member_id=member.member_id, member_epoch=member.member_epoch, heartbeat_interval_ms=interval_ms
    )
    if message.member_epoch == 0 or told_all or before.assigned != member.assigned:
        answer.assignment = ConsumerGroupHeartbeatResponseAssignment(
            [
                ConsumerGroupHeartbeatResponseTopicPartitions(topic_id, sorted(parts))
                for topic_id, parts in member.assigned.items()
            ]
        )
    return answer


def refusal(error: KafkaError) -> ConsumerGroupHeartbeatResponse:
    """The answer to a heartbeat that failed."""
    return ConsumerGroupHeartbeatResponse(error_code=error.code, error_message=error.message or None)


def described_members(
    state: ConsumerState, image: MetadataImage
) -> list[ConsumerGroupDescribeResponseMember]:
    """Every member; partitions of topics that are no more are left out."""
    return [
        ConsumerGroupDescribeResponseMember(
            member_id=member.member_id,
            instance_id=member.instance_id,
            rack_id=member.rack_id,
            member_epoch=member.member_epoch,
            client_id=member.client_id,
            client_host=member.client_host,
            subscribed_topic_names=sorted(member.topic_names),
            subscribed_topic_regex=member.topic_regex,
            assignment=_described(
                {
                    topic_id: [*member.assigned.get(topic_id, ()), *member.revoking.get(topic_id, ())]
                    for topic_id in member.assigned.keys() | member.revoking.keys()
                },
                image,
            ),
            target_assignment=_described(state.targets.get(member.member_id, NO_TARGET), image),
            member_type=CONSUMER_MEMBER if member.classic is None else CLASSIC_MEMBER,
        )
        for member in state.members.values()
    ]


def _described(
    partitions: Mapping[bytes, Iterable[int]], image: MetadataImage
) -> ConsumerGroupDescribeResponseAssignment:
    return ConsumerGroupDescribeResponseAssignment(
        [
            ConsumerGroupDescribeResponseTopicPartitions(
                topic_id, image.topics_by_id[topic_id].name, sorted(parts)
            )
            for topic_id, parts in partitions.items()
            if topic_id in image.topics_by_id
        ]
    )
