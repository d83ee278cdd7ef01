"""Members of both protocols in one group, and groups that change over while they have members."""

import pytest

from tailrace.core import errors
from tailrace.core.errors import NONE
from tailrace.core.groups.classic import ClassicGroup
from tailrace.core.groups.consumer import ConsumerGroup
from tailrace.core.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from tailrace.core.protocol.messages.heartbeat import HeartbeatRequest
from tailrace.core.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from tailrace.core.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupRequestMember
from tests.support.mixed_groups import COUNT, GROUP, New, Old, Shard


def classic_pair(shard: Shard) -> tuple[Old, Old]:
    """Two members of a stable classic group, the first of which leads."""
    one, two = Old(shard), Old(shard)
    one.joined(one.join())
    one.synced(one.sync({one.member_id: set(range(COUNT))}))
    pending = two.join()
    assert one.beat() == errors.REBALANCE_IN_PROGRESS
    one.joined(one.join())
    two.joined(pending)
    waiting = two.sync()
    one.synced(one.sync({one.member_id: {0, 1, 2}, two.member_id: {3, 4, 5}}))
    two.synced(waiting)
    return one, two


def check(*members: Old | New) -> None:
    """Every partition has one owner."""
    owned = [partition for member in members for partition in member.owned]
    assert sorted(owned) == list(range(COUNT))


def rounds(*members: Old | New) -> None:
    for _ in range(4):
        for member in members:
            if isinstance(member, Old):
                member.follow()
            else:
                member.beat()
            owned = [partition for each in members for partition in each.owned]
            assert len(owned) == len(set(owned))


def test_a_new_member_upgrades_the_group_and_all_share_it() -> None:
    shard = Shard()
    one, two = classic_pair(shard)
    generation = one.generation
    new = New(shard, "new")
    answer = new.beat()
    assert (answer.error_code, answer.member_epoch) == (NONE, generation + 1)
    assert new.owned == set()
    assert isinstance(shard.group, ConsumerGroup)
    assert sorted(member.member_type for member in shard.group.describe().members) == [0, 0, 1]
    rounds(one, two, new)
    check(one, two, new)
    assert [len(member.owned) for member in (one, two, new)] == [2, 2, 2]
    assert shard.group.state == "Stable"
    assert one.member_id in {member.member_id for member in shard.group.describe().members}


def test_the_members_of_an_upgraded_group_keep_what_they_own_until_they_move() -> None:
    shard = Shard()
    one, _ = classic_pair(shard)
    New(shard, "new").beat()
    assert one.beat() == errors.REBALANCE_IN_PROGRESS
    members = {member.member_id: member for member in shard.group.describe().members}
    assert members[one.member_id].assignment.topic_partitions[0].partitions == [0, 1, 2]


def test_when_the_last_new_member_leaves_the_group_is_classic_again() -> None:
    shard = Shard()
    one, two = classic_pair(shard)
    new = New(shard, "new")
    new.beat()
    rounds(one, two, new)
    assert new.beat(-1).error_code == NONE
    assert isinstance(shard.group, ClassicGroup)
    assert shard.group.state == "PreparingRebalance"
    assert one.beat() == errors.REBALANCE_IN_PROGRESS
    pending = one.join()
    two.joined(two.join())
    one.joined(pending)
    waiting = {old: old.sync() for old in (one, two) if old.member_id != leader(shard)}
    led = one if one.member_id == leader(shard) else two
    led.synced(led.sync({one.member_id: {0, 1, 2}, two.member_id: {3, 4, 5}}))
    for old, answers in waiting.items():
        old.synced(answers)
    check(one, two)
    shard.start()
    assert (shard.group.state, one.beat()) == ("Stable", NONE)


def leader(shard: Shard) -> str | None:
    group = shard.group
    assert isinstance(group, ClassicGroup)
    return group.members.leader


@pytest.mark.parametrize("end", ["session", "leave group"])
def test_however_the_last_new_member_goes(end: str) -> None:
    shard = Shard()
    one, two = classic_pair(shard)
    new = New(shard, "new")
    new.beat()
    rounds(one, two, new)
    if end == "session":
        for _ in range(10):
            shard.runtime.advance(5_000)
            one.beat()
            two.beat()
    else:
        request = LeaveGroupRequest(GROUP, members=[LeaveGroupRequestMember("new")])
        assert shard.ask(13, 4, request)[0].members[0].error_code == NONE
    assert isinstance(shard.group, ClassicGroup)


def test_both_protocols_survive_a_restart() -> None:
    shard = Shard()
    one, two = classic_pair(shard)
    new = New(shard, "new")
    new.beat()
    rounds(one, two, new)
    shard.start()
    assert (one.beat(), two.beat(), new.beat().error_code) == (NONE, NONE, NONE)
    rounds(one, two, new)
    check(one, two, new)


def test_a_classic_member_joins_a_group_of_the_new_protocol() -> None:
    shard = Shard()
    new, old = New(shard, "new"), Old(shard)
    new.beat()
    answer = old.joined(old.join())
    assert (answer.leader, answer.members, answer.protocol_name) == ("", [], "range")
    old.synced(old.sync())
    assert old.owned == set()
    rounds(old, new)
    check(old, new)
    assert len(old.owned) == 3


def test_classic_members_are_checked_as_kafka_does() -> None:
    shard = Shard()
    new, old = New(shard, "new"), Old(shard)
    new.beat()
    old.joined(old.join())
    rounds(old, new)
    old.generation += 1
    assert (old.beat(), old.sync()[0].error_code) == (errors.ILLEGAL_GENERATION, errors.ILLEGAL_GENERATION)
    old.generation -= 1
    old.protocol = "roundrobin"
    assert old.sync()[0].error_code == errors.INCONSISTENT_GROUP_PROTOCOL
    old.member_id = "new"
    assert old.beat() == errors.UNKNOWN_MEMBER_ID  # it is one, but not of this protocol
    old.member_id = "nobody"
    assert old.beat() == errors.UNKNOWN_MEMBER_ID
    assert old.leave().members[0].error_code == errors.UNKNOWN_MEMBER_ID
    assert old.leave(version=2).error_code == errors.UNKNOWN_MEMBER_ID
    stranger = Old(shard)
    message = stranger.join_request()
    message.protocols = [JoinGroupRequestProtocol("other", b"\0\0")]
    assert shard.ask(11, 7, message)[0].error_code == errors.INCONSISTENT_GROUP_PROTOCOL
    message.protocols = []
    assert shard.ask(11, 7, message)[0].error_code == errors.INCONSISTENT_GROUP_PROTOCOL


def test_a_malformed_subscription_is_refused() -> None:
    shard = Shard()
    New(shard, "new").beat()
    message = Old(shard, instance_id="i").join_request()
    message.protocols[0].metadata = b"\0"
    assert shard.ask(11, 7, message)[0].error_code == errors.INCONSISTENT_GROUP_PROTOCOL


def test_static_members_of_both_protocols_take_over_from_each_other() -> None:
    shard = Shard()
    new, old = New(shard, "new", instance_id="i"), Old(shard, instance_id="i")
    keeps = New(shard, "keeps")
    new.beat()
    rounds(new, keeps)
    owned = set(new.owned)
    old.joined(old.join())
    old.synced(old.sync())
    assert old.owned == owned
    assert new.beat().error_code == errors.FENCED_INSTANCE_ID
    back = New(shard, "back", instance_id="i")
    assert back.beat().error_code == NONE
    rounds(back, keeps)
    assert back.owned == owned
    assert old.beat() == errors.FENCED_INSTANCE_ID


def test_a_classic_member_that_takes_the_place_of_the_last_new_one_makes_the_group_classic() -> None:
    shard = Shard()
    new, old = New(shard, "new", instance_id="i"), Old(shard, instance_id="i")
    new.beat()
    (answer,) = old.join()
    assert answer.error_code == errors.REBALANCE_IN_PROGRESS
    assert isinstance(shard.group, ClassicGroup)
    old.joined(old.join())
    old.synced(old.sync({old.member_id: set(range(COUNT))}))
    assert (old.beat(), shard.group.state) == (NONE, "Stable")
    shard.start()
    assert old.beat() == NONE


def test_classic_members_end_with_their_own_session() -> None:
    shard = Shard()
    new, old = New(shard, "new"), Old(shard)
    new.beat()
    old.joined(old.join())
    rounds(old, new)
    shard.runtime.advance(9_000)
    new.beat()
    assert old.beat() == NONE
    shard.runtime.advance(11_000)
    assert old.beat() == errors.UNKNOWN_MEMBER_ID


def test_a_classic_member_that_joins_and_never_syncs_is_put_out() -> None:
    shard = Shard()
    new, old = New(shard, "new"), Old(shard)
    new.beat()
    old.joined(old.join())
    for _ in range(5):
        shard.runtime.advance(5_000)
        new.beat()
        old.beat()
    assert old.beat() == errors.UNKNOWN_MEMBER_ID


@pytest.mark.parametrize(
    ("policy", "up", "down"),
    [("disabled", False, False), ("upgrade", True, False), ("downgrade", False, True)],
)
def test_the_policy_says_what_may_change(policy: str, up: bool, down: bool) -> None:
    shard = Shard(policy)
    classic_pair(shard)
    new = New(shard, "new")
    assert new.beat().error_code == (NONE if up else errors.GROUP_ID_NOT_FOUND)
    assert isinstance(shard.group, ConsumerGroup if up else ClassicGroup)
    shard = Shard(policy)
    new, old = New(shard, "new"), Old(shard)
    new.beat()
    answers = old.join()
    if policy == "disabled":
        assert answers[0].error_code == errors.INCONSISTENT_GROUP_PROTOCOL
        return
    old.joined(answers)
    rounds(old, new)
    new.beat(-1)
    assert isinstance(shard.group, ClassicGroup if down else ConsumerGroup)


def test_a_group_of_other_clients_is_not_upgraded() -> None:
    shard = Shard()
    message = JoinGroupRequest(
        GROUP, 10_000, 20_000, "", "i", "connect", [JoinGroupRequestProtocol("default", b"")]
    )
    joins = shard.ask(11, 7, message)
    shard.runtime.advance(0)
    assert joins[0].error_code == NONE
    assert New(shard, "new").beat().error_code == errors.GROUP_ID_NOT_FOUND
    assert isinstance(shard.group, ClassicGroup)


def test_members_that_wait_in_a_classic_group_are_told_to_join_again() -> None:
    shard = Shard()
    one, _ = classic_pair(shard)
    three = Old(shard)
    waiting = three.join()
    assert waiting == []
    New(shard, "new").beat()
    assert waiting[0].error_code == errors.REBALANCE_IN_PROGRESS
    three.joined(three.join())
    assert one.beat() == errors.REBALANCE_IN_PROGRESS


def test_a_member_that_is_about_to_change_its_protocol_is_upgraded_too() -> None:
    shard = Shard()
    requests = [Old(shard, instance_id).join_request() for instance_id in ("i", "j")]
    for request in requests:
        request.protocols.append(JoinGroupRequestProtocol("sticky", request.protocols[0].metadata))
    joins = [shard.ask(11, 7, request) for request in requests]
    shard.runtime.advance(0)
    requests[1].member_id = joins[1][0].member_id
    del requests[1].protocols[0]
    assert shard.ask(11, 7, requests[1]) == []
    assert New(shard, "new").beat().error_code == NONE
    assert len(shard.group.describe().members) == 3


def test_a_group_does_not_turn_to_a_protocol_with_malformed_metadata() -> None:
    shard = Shard()
    new, message = New(shard, "new"), Old(shard, "j").join_request()
    new.beat()
    assert Old(shard, "i").join()[0].error_code == NONE
    message.protocols[:0] = [JoinGroupRequestProtocol("sticky", message.protocols[0].metadata)]
    message.protocols[1].metadata = b"\0"
    assert shard.ask(11, 7, message)[0].error_code == NONE
    assert new.beat(-1).error_code == NONE
    assert isinstance(shard.group, ConsumerGroup)


def test_requests_that_come_while_the_group_turns_classic_are_sent_again() -> None:
    shard = Shard()
    one, two = classic_pair(shard)
    new = New(shard, "new")
    new.beat()
    rounds(one, two, new)
    shard.runtime.holds = True
    leave = shard.ask(68, 1, ConsumerGroupHeartbeatRequest(group_id=GROUP, member_id="new", member_epoch=-1))
    beats = shard.ask(12, 4, HeartbeatRequest(GROUP, one.generation, one.member_id))
    joins = shard.ask(11, 7, two.join_request())
    late = shard.ask(
        68,
        1,
        ConsumerGroupHeartbeatRequest(
            GROUP, "late", rebalance_timeout_ms=1, subscribed_topic_names=["orders"], topic_partitions=[]
        ),
    )
    shard.runtime.holds = False
    shard.runtime.release()
    assert [answers[0].error_code for answers in (leave, beats, joins, late)] == [
        NONE,
        errors.REBALANCE_IN_PROGRESS,
        errors.REBALANCE_IN_PROGRESS,
        errors.COORDINATOR_LOAD_IN_PROGRESS,
    ]
    assert isinstance(shard.group, ClassicGroup)


def test_a_downgrade_that_cannot_be_written_has_not_happened() -> None:
    shard = Shard()
    one, two = classic_pair(shard)
    new = New(shard, "new")
    new.beat()
    rounds(one, two, new)
    shard.runtime.error = errors.NOT_ENOUGH_REPLICAS
    assert new.beat(-1).error_code == errors.COORDINATOR_NOT_AVAILABLE
    shard.runtime.error = NONE
    assert isinstance(shard.group, ConsumerGroup)
    assert (one.beat(), new.beat().error_code) == (NONE, NONE)
