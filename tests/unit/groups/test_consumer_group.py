"""A KIP-848 group: joining, moving partitions, leaving, timeouts; states and epochs as Kafka shows them."""

import pytest

from tailrace.core import errors
from tailrace.core.errors import NONE
from tailrace.core.groups.consumer import ConsumerGroup
from tailrace.core.groups.runtime import GroupConfig
from tailrace.core.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from tests.support.consumer_groups import GROUP, GroupBench, Member, settle

ALL = {("orders", partition) for partition in range(6)}


def pair(bench: GroupBench) -> tuple[Member, Member]:
    one, two = bench.member("one"), bench.member("two")
    settle(one, two)
    return one, two


def test_the_first_member_owns_all_with_its_first_heartbeat() -> None:
    bench = GroupBench()
    assert bench.group.state == "Empty"
    one = bench.member("one")
    answer = one.beat()
    assert (answer.error_code, answer.member_id, answer.member_epoch) == (NONE, "one", 2)
    assert one.owned == ALL
    assert bench.group.state == "Stable"


def test_a_second_member_gets_half_once_the_first_gave_it_back() -> None:
    bench = GroupBench()
    one, two = bench.member("one"), bench.member("two")
    one.beat()
    assert two.beat().member_epoch == 3
    assert two.owned == set()
    assert bench.group.state == "Reconciling"
    assert one.beat().member_epoch == 2  # in its epoch until it gave them back
    assert len(one.owned) == 3
    two.beat()
    assert two.owned == set()  # (R) the first has not said that it gave them back
    assert one.beat().member_epoch == 3
    two.beat()
    assert (len(two.owned), one.owned | two.owned) == (3, ALL)
    assert bench.group.state == "Stable"


def test_who_reports_what_it_must_give_back_keeps_others_waiting() -> None:
    bench = GroupBench()
    one, two = bench.member("one"), bench.member("two")
    one.beat()
    two.beat()
    before = set(one.owned)
    one.beat()
    one.owned = before  # revocation takes its time
    for _ in range(3):
        one.beat()
        one.owned = before
        two.beat()
        assert two.owned == set()
    assert bench.group.state == "Reconciling"


def test_no_assignment_is_sent_while_nothing_changes_but_for_one_who_tells_all() -> None:
    bench = GroupBench()
    one = bench.member("one")
    assert one.beat().assignment is not None
    assert one.beat().assignment is None
    assert bench.beat("one", one.epoch).assignment is None
    assert one.beat(full=True).assignment is not None
    assert len(bench.runtime.batches) == 1  # heartbeats that change nothing write nothing


def test_leaving_frees_partitions_and_the_last_leaves_an_empty_group() -> None:
    bench = GroupBench()
    one, two = pair(bench)
    assert two.leave().member_epoch == -1
    assert bench.group.state == "Assigning"
    settle(one)
    assert one.owned == ALL
    one.leave()
    assert bench.group.state == "Empty"
    assert not bench.group.is_done
    assert bench.group.can_delete() == NONE


def test_the_session_of_a_silent_member_ends() -> None:
    bench = GroupBench()
    one, two = pair(bench)
    for _ in range(5):
        bench.runtime.advance(10_000)
        one.beat()
    settle(one)
    assert one.owned == ALL
    assert two.beat().error_code == errors.UNKNOWN_MEMBER_ID


def test_a_member_that_does_not_give_back_in_time_is_put_out() -> None:
    bench = GroupBench()
    one, two = bench.member("one"), bench.member("two")
    one.beat()
    two.beat()
    stuck = set(one.owned)
    for _ in range(6):
        one.owned = stuck
        one.beat()
        two.beat()
        bench.runtime.advance(10_000)
    settle(two)
    assert two.owned == ALL
    assert one.beat().error_code == errors.UNKNOWN_MEMBER_ID


def test_a_timeout_that_could_not_be_written_comes_again() -> None:
    bench = GroupBench()
    one, _ = pair(bench)
    bench.runtime.error = errors.NOT_ENOUGH_REPLICAS
    for _ in range(5):
        bench.runtime.advance(10_000)
        one.beat()
    assert len(bench.group.describe().members) == 2
    bench.runtime.error = NONE
    bench.runtime.advance(500)
    assert len(bench.group.describe().members) == 1


def test_a_heartbeat_that_could_not_be_written_changes_nothing() -> None:
    bench = GroupBench()
    bench.runtime.error = errors.NOT_ENOUGH_REPLICAS
    assert bench.join("one").error_code == errors.COORDINATOR_NOT_AVAILABLE
    assert bench.group.is_done
    bench.runtime.error = NONE
    assert bench.join("one").error_code == NONE


def test_topics_that_were_seen_by_a_heartbeat_that_failed_are_looked_at_again() -> None:
    bench = GroupBench({})
    one = bench.member("one")
    one.beat()
    bench.runtime.create_topic("orders", 1)
    bench.group.on_metadata()
    bench.runtime.error = errors.NOT_ENOUGH_REPLICAS
    assert bench.beat("one", one.epoch, topic_partitions=[]).error_code == errors.COORDINATOR_NOT_AVAILABLE
    bench.runtime.error = NONE
    one.beat()
    assert one.owned == {("orders", 0)}


def test_requests_wait_for_the_write_before_them() -> None:
    """(R) Two joins at once must not both count on the partitions that nobody owns yet."""
    bench = GroupBench()
    one, two = bench.member("one"), bench.member("two")
    bench.runtime.holds = True
    answers = [bench.send(one.request()), bench.send(two.request())]
    assert answers == [[], []]
    bench.runtime.release(1)
    assert (len(answers[0]), len(answers[1])) == (1, 0)
    bench.runtime.holds = False
    bench.runtime.release()
    one.take_in(answers[0][0])
    two.take_in(answers[1][0])
    assert (one.owned, two.owned) == (ALL, set())
    assert (one.epoch, two.epoch) == (2, 3)


def test_a_session_that_ends_while_the_member_is_being_heard_does_not_end() -> None:
    bench = GroupBench()
    one, _ = pair(bench)
    bench.runtime.advance(44_000)
    bench.runtime.holds = True
    one.topics = ["orders", "others"]
    answer = bench.send(one.request(full=True))
    bench.runtime.advance(2_000)  # past its session
    bench.runtime.holds = False
    bench.runtime.release()
    assert answer[0].error_code == NONE
    assert "one" in {member.member_id for member in bench.group.describe().members}


def test_one_epoch_behind_is_the_loss_of_an_answer_and_more_is_fenced() -> None:
    bench = GroupBench()
    one, two = pair(bench)
    epoch = one.epoch
    lost = bench.member("three")
    lost.beat()
    settle(one, two, lost)
    assert bench.beat("one", epoch).error_code == errors.FENCED_MEMBER_EPOCH  # does not say what it owns
    assert bench.beat("one", epoch - 1, topic_partitions=[]).error_code == errors.FENCED_MEMBER_EPOCH
    assert bench.beat("one", one.epoch + 1).error_code == errors.FENCED_MEMBER_EPOCH
    assert bench.beat("one", epoch, topic_partitions=one.partitions()).error_code == NONE


def test_rejoining_with_epoch_zero_gets_the_assignment_again() -> None:
    bench = GroupBench()
    one, _ = pair(bench)
    owned = set(one.owned)
    one.epoch = 0
    answer = one.beat()
    assert (answer.error_code, one.owned) == (NONE, owned)


def test_a_subscription_that_changes_moves_the_group_on() -> None:
    bench = GroupBench({"orders": 2, "others": 2})
    one = bench.member("one")
    one.beat()
    one.topics = ["others"]
    one.beat(full=True)
    assert one.owned == set()  # first what it no longer subscribes to goes
    one.beat()
    assert one.owned == {("others", 0), ("others", 1)}
    assert one.epoch == 3


def test_topics_that_come_grow_and_go_are_seen_with_the_next_heartbeat() -> None:
    bench = GroupBench({})
    one = bench.member("one")
    one.beat()
    assert one.owned == set()
    bench.runtime.create_topic("orders", 2)
    bench.group.on_metadata()
    one.beat()
    assert one.owned == {("orders", 0), ("orders", 1)}
    bench.runtime.delete_topic("orders")
    bench.group.on_metadata()
    one.beat()
    settle(one)
    assert one.owned == set()


def test_who_subscribes_to_nothing_is_a_member_without_partitions() -> None:
    bench = GroupBench()
    answer = bench.join("one", topics=[])
    assert (answer.error_code, answer.member_epoch) == (NONE, 1)
    assert bench.group.state == "Stable"


def test_most_votes_choose_the_assignor_and_the_first_configured_without() -> None:
    bench = GroupBench()
    assert bench.group.describe().assignor_name == "uniform"
    one, two = bench.member("one", assignor="range"), bench.member("two")
    settle(one, two)
    assert bench.group.describe().assignor_name == "range"
    assert one.owned == {("orders", 0), ("orders", 1), ("orders", 2)}


def test_members_beat_often_while_partitions_move_and_seldom_otherwise() -> None:
    bench = GroupBench()
    one, two = bench.member("one"), bench.member("two")
    assert one.beat().heartbeat_interval_ms == 500
    assert two.beat().heartbeat_interval_ms == 100
    settle(one, two)
    assert one.beat().heartbeat_interval_ms == 500
    many = [bench.member(f"m{number}") for number in range(198)]
    for member in many:
        member.beat()
    assert one.beat().heartbeat_interval_ms == 2_000
    settle(one, two, *many)
    assert one.beat().heartbeat_interval_ms == 5_000


def test_members_never_beat_less_often_than_configured() -> None:
    bench = GroupBench(config=GroupConfig(group_consumer_heartbeat_interval_ms=50))
    assert bench.join("one").heartbeat_interval_ms == 50


def test_a_group_that_was_never_written_is_done_and_unknown() -> None:
    bench = GroupBench()
    assert bench.group.is_done
    assert bench.beat("one", 1).error_code == errors.GROUP_ID_NOT_FOUND
    assert bench.beat("one", -1).error_code == errors.GROUP_ID_NOT_FOUND
    bench.join("one")
    assert not bench.group.is_done


def test_tombstones_end_the_group() -> None:
    bench = GroupBench({"orders": 2, "others": 1})
    one = bench.member("one", topics=None, pattern="o.*")
    one.beat()
    assert bench.group.can_delete() == errors.NON_EMPTY_GROUP
    one.leave()
    tombstones = bench.group.tombstones()
    assert all(value is None for _, value in tombstones)
    keys = {key for key, _ in bench.runtime.log} - {key for key, value in bench.runtime.log if value is None}
    assert keys <= {key for key, _ in tombstones}
    for key, value in tombstones:
        bench.replay(key, value)
    assert bench.group.is_done


def test_a_group_that_a_member_is_joining_cannot_be_deleted() -> None:
    bench = GroupBench()
    bench.runtime.holds = True
    bench.send(bench.member("one").request())
    assert bench.group.can_delete() == errors.NON_EMPTY_GROUP
    assert not bench.group.is_done


def test_everything_survives_a_restart() -> None:
    bench = GroupBench({"orders": 6, "others": 3})
    members = [
        bench.member("one"),
        bench.member("two", topics=None, pattern="ot.*"),
        bench.member("three", topics=["orders", "others"], instance_id="i3", assignor="range"),
    ]
    settle(*members)
    before = bench.group.describe()
    bench.restart()
    assert bench.group.describe() == before
    for member in members:
        owned = set(member.owned)
        assert member.beat().error_code == NONE
        assert member.owned == owned
    assert bench.group.describe() == before


def test_half_done_revocations_survive_a_restart() -> None:
    bench = GroupBench()
    one, two = bench.member("one"), bench.member("two")
    one.beat()
    two.beat()
    (answer,) = bench.send(one.request())  # told to give back
    bench.restart()
    two.beat()
    assert two.owned == set()
    one.take_in(answer)
    settle(one, two)
    assert (one.owned | two.owned, one.owned & two.owned) == (ALL, set())


def test_after_a_restart_sessions_begin_anew_and_end() -> None:
    bench = GroupBench()
    pair(bench)
    bench.runtime.advance(40_000)
    bench.restart()
    bench.runtime.advance(44_000)
    assert len(bench.group.describe().members) == 2
    bench.runtime.advance(2_000)
    assert bench.group.state == "Empty"


def test_descriptions_name_partitions_members_and_epochs() -> None:
    bench = GroupBench()
    settle(one := bench.member("one", instance_id="i1"))
    group = bench.group.describe()
    assert (group.group_id, group.group_state, group.group_epoch, group.assignment_epoch) == (
        GROUP,
        "Stable",
        2,
        2,
    )
    (member,) = group.members
    assert (member.member_id, member.instance_id, member.client_id, member.client_host) == (
        one.member_id,
        "i1",
        "client",
        "/127.0.0.1",
    )
    assert (member.subscribed_topic_names, member.subscribed_topic_regex, member.member_type) == (
        ["orders"],
        "",
        1,
    )
    (topic,) = member.assignment.topic_partitions
    assert (topic.topic_name, topic.partitions) == ("orders", [0, 1, 2, 3, 4, 5])
    assert member.target_assignment == member.assignment
    listed = bench.group.listed()
    assert (listed.group_id, listed.protocol_type, listed.group_state, listed.group_type) == (
        GROUP,
        "consumer",
        "Stable",
        "consumer",
    )


def test_a_full_group_takes_nobody_else() -> None:
    bench = GroupBench(config=GroupConfig(group_consumer_max_size=1))
    one = bench.member("one")
    one.beat()
    assert bench.join("two").error_code == errors.GROUP_MAX_SIZE_REACHED
    assert one.beat().error_code == NONE


@pytest.mark.parametrize("version", [0])
def test_version_0_is_given_a_member_id(version: int) -> None:
    bench = GroupBench()
    answer = bench.join("", version=version)
    assert answer.member_id
    assert bench.beat(answer.member_id, answer.member_epoch, version).error_code == NONE


def test_a_group_is_busy_with_one_request_of_many_in_their_order() -> None:
    bench = GroupBench()
    bench.runtime.holds = True
    answers = [bench.send(bench.member(f"m{number}").request()) for number in range(1_500)]
    bench.runtime.holds = False
    bench.runtime.release()  # as deep as it is long, if each went on from the one before
    assert [answer[0].member_epoch for answer in answers] == list(range(2, 1_502))


def test_unknown_kinds_of_records_are_not_for_a_group() -> None:
    group = ConsumerGroup(GroupBench().runtime, GROUP)
    with pytest.raises(AssertionError):
        group.replay(ConsumerGroupHeartbeatRequest(), None)  # type: ignore[arg-type]
