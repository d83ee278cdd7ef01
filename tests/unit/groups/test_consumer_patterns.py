"""Subscriptions by regular expression, and what hostile ones can do."""

import pytest

from tailrace.core import errors
from tailrace.core.errors import NONE, KafkaError
from tailrace.core.groups.topic_pattern import check_pattern, topics_matching
from tests.support.consumer_groups import GroupBench, settle


def topics_of(owned: set[tuple[str, int]]) -> set[str]:
    return {topic for topic, _ in owned}


@pytest.mark.parametrize("pattern", ["a(b", "*", "(?=a)", r"(a)\1", "(a{1000}){1000}", "a" * 10_000_000])
def test_what_is_no_pattern_or_too_large_is_refused(pattern: str) -> None:
    with pytest.raises(KafkaError) as refused:
        check_pattern(pattern)
    assert refused.value.code == errors.INVALID_REGULAR_EXPRESSION
    assert topics_matching(pattern, ["a"]) == frozenset()


def test_the_whole_name_must_match() -> None:
    assert topics_matching("a|b.", ["a", "ab", "b", "bc", "xa"]) == {"a", "bc"}


def test_a_pattern_that_backtracking_never_ends_with_takes_no_time() -> None:
    assert topics_matching("(a+)+b", ["a" * 249]) == frozenset()


def test_a_pattern_is_resolved_with_the_heartbeat_that_brings_it() -> None:
    bench = GroupBench({"orders": 2, "others": 1, "more": 1})
    one = bench.member("one", topics=None, pattern="o.*")
    assert one.beat().error_code == NONE
    assert topics_of(one.owned) == {"orders", "others"}
    assert bench.group.subscribed_topics() == {"orders", "others"}


def test_an_invalid_pattern_leaves_no_member() -> None:
    bench = GroupBench()
    answer = bench.join("one", topics=None, subscribed_topic_regex="a(")
    assert answer.error_code == errors.INVALID_REGULAR_EXPRESSION
    assert "`a(`" in (answer.error_message or "")
    assert bench.group.is_done


def test_topics_that_come_are_seen_and_at_most_once_a_second() -> None:
    bench = GroupBench({"orders": 1})
    one = bench.member("one", topics=None, pattern="o.*")
    one.beat()
    bench.runtime.create_topic("others", 1)
    bench.group.on_metadata()
    one.beat()
    assert topics_of(one.owned) == {"orders"}
    bench.runtime.advance(1_000)
    one.beat()
    assert topics_of(one.owned) == {"orders", "others"}


def test_names_and_a_pattern_add_up_and_an_empty_pattern_is_none() -> None:
    bench = GroupBench({"orders": 1, "others": 1, "more": 1})
    one = bench.member("one", topics=["more"], pattern="orders")
    one.beat()
    assert topics_of(one.owned) == {"more", "orders"}
    one.pattern = ""
    one.beat(full=True)
    settle(one)
    assert topics_of(one.owned) == {"more"}


def test_a_pattern_that_nobody_uses_any_more_is_forgotten() -> None:
    bench = GroupBench({"orders": 1, "others": 1})
    one = bench.member("one", topics=None, pattern="or.*")
    two = bench.member("two", topics=None, pattern="or.*")
    settle(one, two)
    one.pattern = "ot.*"
    one.beat(full=True)
    settle(one, two)
    assert bench.group.subscribed_topics() == {"orders", "others"}
    two.leave()
    settle(one)
    assert bench.group.subscribed_topics() == {"others"}
    live = dict(bench.runtime.log)
    assert not [key for key, value in live.items() if value is not None and b"or.*" in key]


def test_patterns_survive_a_restart_and_see_what_came_meanwhile() -> None:
    bench = GroupBench({"orders": 1})
    one = bench.member("one", topics=None, pattern="o.*")
    one.beat()
    bench.runtime.create_topic("others", 1)
    bench.restart()
    one.beat()
    assert topics_of(one.owned) == {"orders", "others"}
