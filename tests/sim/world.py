"""A world for machines of `core`: virtual time, seeded chance, links that lose things, nodes that die.

    world = World(seed, Weather(drop=0.05))
    place = world.add("node 1", receive)          receive(source, message) is called for what arrives
    world.send("node 1", "node 2", message)       arrives later, twice, or never
    world.after("node 1", 10, action)             is called in 10 ms, unless the node dies before
    world.run(until_ms=5000, after_each=check)    one event after the other, and the check after each

All chance is `world.random`, all time `world.now_ms` (ms): a seed always gives the same run. What happened is
kept as a story and printed by the `Broken` that `world.fail` raises; its lines are only formatted then.

A message must not be changed once it is sent: the receiver gets the same object, perhaps twice.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any, NoReturn

from msgspec import Struct

STORY_LINES_MAX = 20_000

Receive = Callable[[str, Any], None]
Action = Callable[[], object]


class Broken(AssertionError):
    """A promise was not kept; the text is what, and the story that led to it."""


class Weather(Struct, kw_only=True, frozen=True):
    """What links do to messages; times in ms, chances per message. Delays differ, so messages overtake."""

    delay_ms: tuple[int, int] = (0, 2)
    slow: float = 0.0  # the chance that a message takes up to slow_ms instead
    slow_ms: int = 200
    drop: float = 0.0
    duplicate: float = 0.0


class Place(Struct, kw_only=True):
    """One node as the world sees it. What was meant for an earlier incarnation never arrives."""

    name: str
    receive: Receive
    incarnation: int = 0
    is_up: bool = True
    is_paused: bool = False
    held: list[tuple[int, Action]] = []  # what came due while it was paused, with its incarnation


class World:
    """See the module."""

    def __init__(
        self, seed: int, weather: Weather | None = None, describe: Callable[[Any], str] = str
    ) -> None:
        """describe: how the story tells a Struct, such as a message."""
        self.seed, self._describe = seed, describe
        self.random = Random(seed)
        self.weather = weather or Weather()
        self.now_ms = 0
        self.events = 0
        self.places: dict[str, Place] = {}
        self._cut: set[tuple[str, str]] = set()  # (source, target): one way
        self._story: list[tuple[int, str, tuple[object, ...]]] = []
        self._queue: list[tuple[int, int, Place | None, int, Action]] = []
        self._sequence = 0

    # Nodes.

    def add(self, name: str, receive: Receive) -> Place:
        """A node that is up."""
        assert name not in self.places
        place = self.places[name] = Place(name=name, receive=receive)
        return place

    def crash(self, name: str) -> None:
        """It is gone, with its timers and what was on its way to it."""
        place = self.places[name]
        self.tell("{} crashes", name)
        place.incarnation += 1
        place.is_up = place.is_paused = False
        place.held = []

    def restart(self, name: str, receive: Receive) -> None:
        """A new incarnation of a node that was down."""
        place = self.places[name]
        assert not place.is_up
        self.tell("{} starts again", name)
        place.is_up, place.receive = True, receive

    def pause(self, name: str) -> None:
        """It does nothing until `resume`; then all that came due meanwhile happens at once, in order."""
        self.tell("{} is paused", name)
        self.places[name].is_paused = True

    def resume(self, name: str) -> None:
        """See pause; no matter if it crashed meanwhile."""
        place = self.places[name]
        if not place.is_paused:
            return
        self.tell("{} goes on", name)
        place.is_paused = False
        held, place.held = place.held, []
        for incarnation, action in held:
            self._push(self.now_ms, place, incarnation, action)

    # Links.

    def partition(self, *groups: list[str]) -> None:
        """Only members of the same group reach each other; who is in no group reaches nobody."""
        self.tell("links hold only inside of {}", groups)
        group_of = {name: index for index, group in enumerate(groups) for name in group}
        self._cut = {
            (source, target)
            for source in self.places
            for target in self.places
            if source != target and (source not in group_of or group_of[source] != group_of.get(target))
        }

    def cut(self, source: str, target: str) -> None:
        """Nothing that source sends reaches target any more; the other way is not touched."""
        self.tell("the link from {} to {} is cut", source, target)
        self._cut.add((source, target))

    def heal(self) -> None:
        """All links hold."""
        if self._cut:
            self.tell("all links hold")
            self._cut.clear()

    def send(self, source: str, target: str, message: object) -> None:
        """A message on its way; what is sent to nobody is lost."""
        place = self.places.get(target)
        if place is None or not place.is_up or (source, target) in self._cut:
            self.tell("{} -> {}: lost: {}", source, target, message)
            return
        weather, random = self.weather, self.random
        if weather.drop and random.random() < weather.drop:
            self.tell("{} -> {}: dropped: {}", source, target, message)
            return
        copies = 2 if weather.duplicate and random.random() < weather.duplicate else 1
        for _ in range(copies):
            delay = random.randint(*weather.delay_ms)
            if weather.slow and random.random() < weather.slow:
                delay = random.randint(0, weather.slow_ms)
            self._push(self.now_ms + delay, place, place.incarnation, _Delivery(self, source, place, message))

    # Time.

    def after(self, name: str, delay_ms: int, action: Action) -> None:
        """In so many ms, if that node still lives then, and is not paused."""
        place = self.places[name]
        self._push(self.now_ms + delay_ms, place, place.incarnation, action)

    def at(self, at_ms: int, action: Action) -> None:
        """At that time, whatever happens to nodes: for what befalls them."""
        self._push(max(at_ms, self.now_ms), None, 0, action)

    def _push(self, at_ms: int, place: Place | None, incarnation: int, action: Action) -> None:
        self._sequence += 1
        heappush(self._queue, (at_ms, self._sequence, place, incarnation, action))

    def step(self) -> bool:
        """The next event; False if there is none."""
        while self._queue:
            at_ms, _, place, incarnation, action = heappop(self._queue)
            self.now_ms = at_ms
            if place is not None:
                if place.incarnation != incarnation or not place.is_up:
                    continue
                if place.is_paused:
                    place.held.append((incarnation, action))
                    continue
            self.events += 1
            action()
            return True
        return False

    def run(self, until_ms: int, after_each: Action | None = None) -> None:
        """All events up to that time."""
        while self._queue and self._queue[0][0] <= until_ms:
            if self.step() and after_each is not None:
                after_each()
        self.now_ms = max(self.now_ms, until_ms)

    def run_until(
        self, condition: Callable[[], bool], *, within_ms: int, after_each: Action | None = None
    ) -> None:
        """Events until the condition holds; Broken if it does not within that time."""
        limit = self.now_ms + within_ms
        while not condition():
            if not self._queue or self._queue[0][0] > limit:
                self.fail(f"not within {within_ms} ms: {getattr(condition, '__name__', condition)}")
            if self.step() and after_each is not None:
                after_each()

    # Disks.

    def survivors(self, synced: int, end: int) -> int:
        """Where an append-only file ends after a crash: all that was synced, and any part of the rest."""
        return self.random.randint(synced, end) if end > synced else end

    # Chance and the story.

    def chance(self, probability: float) -> bool:
        """Whether it happens this time."""
        return self.random.random() < probability

    def tell(self, line: str, *values: object) -> None:
        """Adds to the story; values are put into the line's {} when somebody reads it, so they must not
        change.
        """
        if len(self._story) < STORY_LINES_MAX:
            self._story.append((self.now_ms, line, values))

    def story(self) -> list[str]:
        """What has happened, a line each."""
        told: list[str] = []
        for now_ms, line, values in self._story:
            words = [self._describe(value) if isinstance(value, Struct) else value for value in values]
            told.append(f"{now_ms:6} ms  {line.format(*words)}")
        return told

    def fail(self, why: str) -> NoReturn:
        """Raises Broken with the story."""
        raise Broken("\n".join([*self.story(), f"seed {self.seed}, {self.now_ms} ms: {why}"]))


class _Delivery:
    """A message that arrives. An object and not a closure: its message is told when it does."""

    def __init__(self, world: World, source: str, place: Place, message: object) -> None:
        self.world, self.source, self.place, self.message = world, source, place, message

    def __call__(self) -> None:
        self.world.tell("{} -> {}: {}", self.source, self.place.name, self.message)
        self.place.receive(self.source, self.message)
