"""Assignors: everything is given to exactly one subscriber, evenly, and little moves."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.groups.assignors import (
    ASSIGNORS,
    Assignor,
    MemberSpec,
    Partitions,
    assign_range,
    assign_uniform,
)

A, B, C = (letter.encode() * 16 for letter in "abc")
EVERY = pytest.mark.parametrize("assign", ASSIGNORS.values(), ids=ASSIGNORS)


def member(*topics: bytes, target: Partitions | None = None, instance_id: str | None = None) -> MemberSpec:
    return MemberSpec(instance_id, frozenset(topics), target or {})


def load(target: Partitions) -> int:
    return sum(map(len, target.values()))


def as_pairs(target: Partitions) -> set[tuple[bytes, int]]:
    return {(topic_id, partition) for topic_id, parts in target.items() for partition in parts}


def check_whole(
    members: Mapping[str, MemberSpec], counts: Mapping[bytes, int], targets: Mapping[str, Partitions]
) -> None:
    """Every partition that anybody subscribes to has one owner, and that one subscribes."""
    assert targets.keys() == members.keys()
    owned = [(member_id, pair) for member_id, target in targets.items() for pair in as_pairs(target)]
    assert all(topic_id in members[member_id].topic_ids for member_id, (topic_id, _) in owned)
    subscribed = {topic_id for spec in members.values() for topic_id in spec.topic_ids}
    wanted = [(topic_id, partition) for topic_id in subscribed for partition in range(counts[topic_id])]
    assert sorted(pair for _, pair in owned) == sorted(wanted)
    assert all(parts for target in targets.values() for parts in target.values())


def next_specs(members: Mapping[str, MemberSpec], targets: Mapping[str, Partitions]) -> dict[str, MemberSpec]:
    return {
        member_id: MemberSpec(spec.instance_id, spec.topic_ids, targets.get(member_id, {}))
        for member_id, spec in members.items()
    }


topics = st.sampled_from([A, B, C])
targets = st.dictionaries(topics, st.frozensets(st.integers(0, 12), min_size=1))
ids = st.integers(0, 20).map(lambda number: f"m{number}")
specs = st.builds(
    MemberSpec,
    st.none() | st.integers(0, 50).map(lambda number: f"i{number}"),
    st.frozensets(topics),
    targets,
)
groups = st.dictionaries(ids, specs, max_size=12)
sizes = st.fixed_dictionaries({A: st.integers(1, 12), B: st.integers(1, 12), C: st.integers(1, 12)})


@EVERY
@given(members=groups, counts=sizes)
def test_every_partition_goes_to_exactly_one_subscriber(
    assign: Assignor, members: dict[str, MemberSpec], counts: dict[bytes, int]
) -> None:
    check_whole(members, counts, assign(members, counts))


@given(
    members=st.dictionaries(ids, targets, min_size=1, max_size=12),
    counts=sizes,
    subscribed=st.frozensets(topics, min_size=1),
)
def test_uniform_loads_differ_by_one_at_most_where_all_subscribe_alike(
    members: dict[str, Partitions], counts: dict[bytes, int], subscribed: frozenset[bytes]
) -> None:
    specs = {member_id: MemberSpec(None, subscribed, target) for member_id, target in members.items()}
    loads = [load(target) for target in assign_uniform(specs, counts).values()]
    assert max(loads) - min(loads) <= 1


@given(members=groups, counts=sizes)
def test_uniform_moves_nothing_the_second_time(
    members: dict[str, MemberSpec], counts: dict[bytes, int]
) -> None:
    first = assign_uniform(members, counts)
    assert assign_uniform(next_specs(members, first), counts) == first


@given(members=groups, counts=sizes)
def test_uniform_leaves_no_move_that_would_even_out(
    members: dict[str, MemberSpec], counts: dict[bytes, int]
) -> None:
    targets = assign_uniform(members, counts)
    for owner, target in targets.items():
        for topic_id in target:
            subscribers = [name for name, spec in members.items() if topic_id in spec.topic_ids]
            assert load(targets[owner]) - min(load(targets[name]) for name in subscribers) <= 1


@given(before=st.integers(1, 10), after=st.integers(1, 10), counts=sizes)
def test_uniform_moves_no_more_than_it_takes(before: int, after: int, counts: dict[bytes, int]) -> None:
    """Of those that stay, who has too little gets, who has too much gives, and nothing else moves."""
    subscribed = frozenset(counts)
    old = assign_uniform({f"m{n}": MemberSpec(None, subscribed, {}) for n in range(before)}, counts)
    new = assign_uniform(
        {f"m{n}": MemberSpec(None, subscribed, old.get(f"m{n}", {})) for n in range(after)}, counts
    )
    total = sum(counts.values())
    kept = sum(len(as_pairs(old[name]) & as_pairs(new[name])) for name in old.keys() & new.keys())
    quota, extra = divmod(total, after)
    loads = sorted((load(old.get(f"m{n}", {})) for n in range(after)), reverse=True)
    best = sum(min(size, quota + (place < extra)) for place, size in enumerate(loads))
    assert kept == best


def test_a_third_member_takes_from_both_others() -> None:
    counts = {A: 6}
    two = assign_uniform({"one": member(A), "two": member(A)}, counts)
    specs = {name: member(A, target=target) for name, target in two.items()} | {"three": member(A)}
    three = assign_uniform(specs, counts)
    assert {name: load(target) for name, target in three.items()} == {"one": 2, "two": 2, "three": 2}
    assert as_pairs(three["one"]) < as_pairs(two["one"])
    assert as_pairs(three["two"]) < as_pairs(two["two"])


def test_uniform_does_not_count_a_partition_that_two_members_claim_twice() -> None:
    claim = {A: frozenset({0, 1, 2, 3})}
    targets = assign_uniform({"one": member(A, target=claim), "two": member(A, target=claim)}, {A: 4})
    assert sorted(map(load, targets.values())) == [2, 2]


def test_uniform_forgets_partitions_and_topics_that_are_no_more() -> None:
    old = {A: frozenset({0, 7}), B: frozenset({0})}
    assert assign_uniform({"one": member(A, target=old)}, {A: 1}) == {"one": {A: frozenset({0})}}


def test_range_gives_contiguous_ranges_and_splits_topics_of_one_size_alike() -> None:
    targets = assign_range({"b": member(A, B), "a": member(A, B)}, {A: 3, B: 3})
    assert targets == {
        "a": {A: frozenset({0, 1}), B: frozenset({0, 1})},
        "b": {A: frozenset({2}), B: frozenset({2})},
    }


def test_range_puts_static_members_first_by_their_instance_id() -> None:
    specs = {"a": member(A), "z": member(A, instance_id="1"), "y": member(A, instance_id="2")}
    targets = assign_range(specs, {A: 3})
    assert targets == {"z": {A: frozenset({0})}, "y": {A: frozenset({1})}, "a": {A: frozenset({2})}}


def test_range_leaves_members_beyond_the_partitions_without() -> None:
    assert assign_range({"a": member(A), "b": member(A)}, {A: 1}) == {"a": {A: frozenset({0})}, "b": {}}


@EVERY
def test_without_members_or_topics_there_is_nothing_to_give(assign: Assignor) -> None:
    assert assign({}, {}) == {}
    assert assign({"a": member()}, {}) == {"a": {}}
