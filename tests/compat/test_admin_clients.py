"""Partitions and configs through the admin clients of Python's libraries."""

import asyncio
from importlib import import_module
from itertools import count
from typing import Any
from uuid import uuid4

import pytest

NAMES = (f"admin-{uuid4().hex[:8]}-{number}" for number in count())


def confluent(bootstrap: str, topic: str) -> tuple[int, dict[str, str]]:
    """librdkafka's; also AlterConfigs, which it still has."""
    admin_api: Any = import_module("confluent_kafka.admin")
    admin = admin_api.AdminClient({"bootstrap.servers": bootstrap})

    def result(futures: dict[Any, Any]) -> Any:
        (future,) = futures.values()
        return future.result(30)

    def altered(*entries: Any) -> Any:
        return admin_api.ConfigResource("TOPIC", topic, incremental_configs=list(entries))

    operation = admin_api.AlterConfigOpType
    result(admin.create_topics([admin_api.NewTopic(topic, 1, 1)]))
    result(admin.create_partitions([admin_api.NewPartitions(topic, 4)]))
    replaced = admin_api.ConfigResource("TOPIC", topic, {"segment.ms": "5000"})
    with pytest.warns(DeprecationWarning, match="alter_configs"):
        result(admin.alter_configs([replaced]))
    entry = admin_api.ConfigEntry
    result(
        admin.incremental_alter_configs(
            [
                altered(
                    entry("max.message.bytes", "7777", incremental_operation=operation.SET),
                    entry("cleanup.policy", "compact", incremental_operation=operation.APPEND),
                    entry("segment.ms", None, incremental_operation=operation.DELETE),
                )
            ]
        )
    )
    error: Any = import_module("confluent_kafka").KafkaException
    wrong = altered(entry("max.message.bytes", "x", incremental_operation=operation.SET))
    with pytest.raises(error, match="Not a number of type INT"):
        result(admin.incremental_alter_configs([wrong]))
    (broker_id,) = admin.list_topics(topic).brokers
    told = result(admin.describe_configs([admin_api.ConfigResource("TOPIC", topic)]))
    broker = result(admin.describe_configs([admin_api.ConfigResource("BROKER", str(broker_id))]))
    assert broker["log.dirs"].is_read_only
    own = {name: found.value for name, found in told.items() if found.source == 1}
    return len(admin.list_topics(topic).topics[topic].partitions), own


def kafka_python(bootstrap: str, topic: str) -> tuple[int, dict[str, str]]:
    """The oldest one."""
    admin_api: Any = import_module("kafka.admin")
    admin = admin_api.KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        kind = admin_api.ConfigResourceType.TOPIC
        admin.create_topics([admin_api.NewTopic(topic, 1, 1)])
        admin.create_partitions({topic: 4})
        configs = {"max.message.bytes": ("SET", "7777"), "cleanup.policy": ("APPEND", "compact")}
        admin.alter_configs([admin_api.ConfigResource(kind, topic, configs)])
        replaced = {"max.message.bytes": "7777", "cleanup.policy": "delete,compact"}
        admin.alter_configs([admin_api.ConfigResource(kind, topic, replaced)], incremental=False)
        told = admin.describe_configs([admin_api.ConfigResource(kind, topic)])["topic"][topic]
        (partitions,) = [found["partitions"] for found in admin.describe_topics([topic])]
        return len(partitions), {name: found["value"] for name, found in told.items()}
    finally:
        admin.close()


def aio(bootstrap: str, topic: str) -> tuple[int, dict[str, str]]:
    """aiokafka's, which knows AlterConfigs only."""
    admin_api: Any = import_module("aiokafka.admin")
    resources: Any = import_module("aiokafka.admin.config_resource")

    async def run() -> tuple[int, dict[str, str]]:
        admin = admin_api.AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            kind = resources.ConfigResourceType.TOPIC
            await admin.create_topics([admin_api.NewTopic(topic, 1, 1)])
            await admin.create_partitions({topic: admin_api.NewPartitions(4)})
            configs = {"max.message.bytes": "7777", "cleanup.policy": "delete,compact"}
            await admin.alter_configs([resources.ConfigResource(kind, topic, configs)])
            (told,) = await admin.describe_configs([resources.ConfigResource(kind, topic)])
            entries = told.resources[0][4]
            (described,) = await admin.describe_topics([topic])
            own = {entry[0]: entry[1] for entry in entries if entry[3] == 1}
            return len(described["partitions"]), own
        finally:
            await admin.close()

    return asyncio.run(run())


@pytest.mark.parametrize("client", [confluent, kafka_python, aio])
def test_partitions_and_configs(bootstrap: str, client: Any) -> None:
    partitions, configs = client(bootstrap, next(NAMES))
    assert partitions == 4
    assert configs == {"max.message.bytes": "7777", "cleanup.policy": "delete,compact"}
