"""Any sequence of pushes, publishes and pops is what a list would have done."""
# pyright: reportPrivateUsage=false
# The counts start near their 32-bit wrap, where billions of pushes would lead: no public way there.

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.shm.links import BYTES, DESCRIPTOR
from tailrace.shm.ring import ByteConsumer, ByteProducer, DescriptorConsumer, DescriptorProducer, pack_entry
from tests.support.shared_run import SharedRun, shared_run

CAPACITY = 8
BYTE_CAPACITY = 256
NEAR_WRAP = (1 << 32) - 16

descriptor_steps = st.lists(
    st.one_of(st.just("push"), st.just("publish"), st.integers(1, CAPACITY + 1)), max_size=120
)
byte_steps = st.lists(st.one_of(st.none(), st.binary(max_size=120)), max_size=80)
starts = st.sampled_from([0, NEAR_WRAP])


def descriptor_pair(run: SharedRun, start: int) -> tuple[DescriptorProducer, DescriptorConsumer]:
    producer = run.begin(1).outgoing(run.slots.begin(2, 4, 0, 0), DESCRIPTOR, CAPACITY)
    assert producer is not None
    target = run.links(2, run.slots.incarnation(2))
    target.poll()
    producer.try_push(bytes(64))
    producer.publish()
    ((_, _, consumer),) = target.poll()
    assert isinstance(consumer, DescriptorConsumer)
    consumer.pop_all()
    if start:
        producer._lap += start
        producer._base += start
        consumer._consumed += start
        consumer._mine += start
        consumer._words[8] += start
        producer._limit = producer._at
        producer.publish()
    return producer, consumer


@settings(max_examples=60, deadline=None)
@given(steps=descriptor_steps, start=starts)
def test_descriptor_ring_is_a_bounded_list(steps: list[str | int], start: int) -> None:
    with shared_run(4) as run:
        producer, consumer = descriptor_pair(run, start)
        staged: deque[int] = deque()
        published: deque[int] = deque()
        for number, step in enumerate(steps):
            if step == "push":
                pushed = producer.try_push(pack_entry(number, 0, 0, 0, 0, 0, 0, 0))
                assert pushed == (len(staged) + len(published) < CAPACITY)
                if pushed:
                    staged.append(number)
            elif step == "publish":
                producer.publish()
                published += staged
                staged.clear()
            else:
                limit = int(step)
                assert consumer.unread() == len(published)
                taken = [entry[0] for entry in consumer.pop_all(limit)]
                assert taken == [published.popleft() for _ in range(min(limit, len(published)))]
            assert producer.room() == CAPACITY - len(staged) - len(published)


def byte_pair(run: SharedRun, start: int) -> tuple[ByteProducer, ByteConsumer]:
    producer = run.begin(1).outgoing(run.slots.begin(2, 4, 0, 0), BYTES, BYTE_CAPACITY)
    assert producer is not None
    target = run.links(2, run.slots.incarnation(2))
    producer.try_push(b"")
    ((_, _, consumer),) = target.poll()
    assert isinstance(consumer, ByteConsumer)
    consumer.pop()
    if start:
        producer._published += start
        consumer._consumed += start
        consumer._mine += start
        consumer._words[8] += start
        producer._heads[producer._head] += start
    return producer, consumer


@settings(max_examples=60, deadline=None)
@given(steps=byte_steps, start=starts)
def test_byte_ring_is_a_list_that_refuses_only_when_full(steps: list[bytes | None], start: int) -> None:
    with shared_run(4) as run:
        producer, consumer = byte_pair(run, start)
        frames: deque[bytes] = deque()
        for step in steps:
            if step is None:
                assert consumer.pop() == (frames.popleft() if frames else None)
            elif producer.try_push(step):
                frames.append(step)
            else:
                assert frames, "an empty ring refuses nothing"
        while frames:
            assert consumer.pop() == frames.popleft()
        assert consumer.pop() is None
