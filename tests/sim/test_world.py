"""The world itself: what the simulations rely on."""

import pytest

from tests.sim.world import Broken, Weather, World

Heard = list[tuple[int, str, object]]


def listener(world: World, heard: Heard, name: str) -> None:
    """A node that writes down what it hears, and when."""
    world.add(name, lambda source, message: heard.append((world.now_ms, source, message)))


def exchange(seed: int, weather: Weather) -> Heard:
    """A hundred messages from a to b."""
    world, heard = World(seed, weather), Heard()
    world.add("a", lambda _, __: None)
    listener(world, heard, "b")
    for number in range(100):
        world.send("a", "b", number)
    world.run(10_000)
    return heard


def test_a_seed_repeats_its_run_and_another_does_not() -> None:
    weather = Weather(drop=0.1, duplicate=0.1, slow=0.1)
    assert exchange(1, weather) == exchange(1, weather)
    assert exchange(1, weather) != exchange(2, weather)


def test_messages_are_dropped_duplicated_and_overtake() -> None:
    numbers = [message for _, _, message in exchange(1, Weather(drop=0.1, duplicate=0.1))]
    assert len(set(numbers)) < 100
    assert len(numbers) > len(set(numbers))
    assert numbers != sorted(numbers, key=str)


def test_a_partition_loses_both_ways_a_cut_one() -> None:
    world, heard = World(0), Heard()
    listener(world, heard, "a")
    listener(world, heard, "b")
    world.partition(["a"], ["b"])
    world.send("a", "b", 1)
    world.send("b", "a", 2)
    world.heal()
    world.cut("a", "b")
    world.send("a", "b", 3)
    world.send("b", "a", 4)
    world.run(100)
    assert [message for _, _, message in heard] == [4]


def test_a_paused_node_gets_everything_when_it_goes_on() -> None:
    world, heard = World(0), Heard()
    listener(world, heard, "b")
    world.pause("b")
    world.send("a", "b", 1)
    world.after("b", 5, lambda: heard.append((world.now_ms, "timer", 2)))
    world.run(50)
    assert not heard
    world.resume("b")
    world.run(60)
    assert sorted(heard, key=str) == [(50, "a", 1), (50, "timer", 2)]


def test_what_was_meant_for_a_dead_incarnation_never_arrives() -> None:
    world, heard = World(0), Heard()
    listener(world, heard, "b")
    world.send("a", "b", 1)
    world.after("b", 5, lambda: heard.append((world.now_ms, "timer", 2)))
    world.crash("b")
    world.send("a", "b", 3)
    world.restart("b", lambda source, message: heard.append((world.now_ms, source, message)))
    world.send("a", "b", 4)
    world.run(100)
    assert [message for _, _, message in heard] == [4]


def test_a_failure_tells_the_story_and_the_seed() -> None:
    world = World(7)
    world.tell("{} did {}", "a", 3)
    with pytest.raises(Broken, match=r"(?s)a did 3.*seed 7, 0 ms: lost") as broken:
        world.fail("lost")
    assert "seed 7" in str(broken.value)


def test_a_condition_that_never_holds_is_a_failure() -> None:
    world = World(0)
    world.add("a", lambda _, __: None)
    with pytest.raises(Broken, match="not within 10 ms"):
        world.run_until(lambda: False, within_ms=10)


def test_a_crash_keeps_what_was_synced() -> None:
    world = World(0)
    assert {world.survivors(3, 6) for _ in range(100)} == {3, 4, 5, 6}
    assert world.survivors(6, 6) == 6
