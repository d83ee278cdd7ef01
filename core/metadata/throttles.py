"""How fast replicas that are not in sync, or move between log directories, may copy (KIP-73, KIP-113).

A throttle is a rate of a broker, for all that it sends as leader or all that it takes as follower, and lists
of topics that say whose replicas it is about. Who shares a rate has an equal part of it.
"""

from collections import Counter

from tailrace.core.config_dynamic import ALTER_DIRS_RATE, FOLLOWER_RATE, LEADER_RATE
from tailrace.core.config_keys import THROTTLED
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.leadership import ReplicaKey
from tailrace.core.metadata.records import NO_LEADER, RESOURCE_BROKER

FOLLOWERS, LEADERS = THROTTLED  # topic keys
Payer = tuple[str, int]
"""A rate, by its key, and whose."""


def copy_rates(image: MetadataImage) -> dict[ReplicaKey, int]:
    """Bytes a second for each replica that is throttled; the others are not named. A rate of zero, which
    Kafka takes, is one byte: it copies, hardly.
    """
    rates = _rates(image)
    if not rates:
        return {}
    payers: dict[ReplicaKey, list[Payer]] = {}
    for topic in image.topics_by_name.values():
        configs = image.topic_configs(topic.name)
        followers, leaders = (_listed(configs.get(name, "")) for name in (FOLLOWERS, LEADERS))
        if not followers and not leaders:
            continue
        for state in topic.partitions:
            for broker in state.replicas:
                if state.leader in (NO_LEADER, broker) or broker in state.isr:
                    continue
                asked: list[tuple[Payer, frozenset[str]]] = [
                    ((FOLLOWER_RATE, broker), followers),
                    ((LEADER_RATE, state.leader), leaders),
                ]
                paid = (payer for payer, listed in asked if _has(listed, state.partition, payer))
                found = [payer for payer in paid if payer in rates]
                if found:
                    payers[topic.topic_id, state.partition, broker] = found
    shares = Counter(payer for found in payers.values() for payer in found)
    return {
        key: max(1, min(rates[payer] // shares[payer] for payer in found)) for key, found in payers.items()
    }


def move_rate(image: MetadataImage, broker: int, moving: int) -> int:
    """Bytes a second for each of so many replicas of a broker that move between its log directories; 0: as
    many as it can.
    """
    of_all = image.configs.get((RESOURCE_BROKER, ""), {}).get(ALTER_DIRS_RATE)
    text = image.configs.get((RESOURCE_BROKER, str(broker)), {}).get(ALTER_DIRS_RATE, of_all)
    return 0 if text is None else max(1, int(text) // moving)


def _rates(image: MetadataImage) -> dict[Payer, int]:
    """By broker; a rate for all brokers holds where one has none of its own."""
    of_all = image.configs.get((RESOURCE_BROKER, ""), {})
    found: dict[Payer, int] = {}
    for broker in image.brokers:
        own = image.configs.get((RESOURCE_BROKER, str(broker)), {})
        for name in (FOLLOWER_RATE, LEADER_RATE):
            text = own.get(name, of_all.get(name))
            if text is not None:
                found[name, broker] = int(text)
    return found


def _listed(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(",") if part.strip())


def _has(listed: frozenset[str], partition: int, payer: Payer) -> bool:
    return "*" in listed or f"{partition}:{payer[1]}" in listed
