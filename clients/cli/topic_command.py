"""`tailrace topic create | list | describe | delete`, and the commands of topic_changes.py."""

from collections.abc import Mapping
from typing import Any

import click

from tailrace.clients.admin import Admin, FoundOffset
from tailrace.clients.cli.options import bootstrap_option, connect, output_option, timeout_option
from tailrace.clients.cli.output import print_json, print_table
from tailrace.clients.cli.topic_changes import add_partitions, alter_config, trim
from tailrace.core.errors import TOPIC_ALREADY_EXISTS, KafkaError, name_of
from tailrace.core.ids import uuid_text
from tailrace.core.protocol.messages.describe_configs import DescribeConfigsResponseConfig
from tailrace.core.protocol.messages.list_offsets import EARLIEST, LATEST
from tailrace.core.protocol.messages.metadata import MetadataResponsePartition, MetadataResponseTopic

CONFIG_SOURCES = {1: "topic", 2: "broker", 3: "cluster default", 4: "broker's file", 5: "default"}


@click.group("topic")
def command() -> None:
    """Create, list, describe, change and delete topics.

    \b
    Example: tailrace topic list
    """


command.add_command(alter_config)
command.add_command(add_partitions)
command.add_command(trim)


@command.command("create")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-p", "--partitions", type=click.IntRange(1), default=None, help="Default: the broker's.")
@click.option(
    "-r", "--replication-factor", type=click.IntRange(1, 32767), default=None, help="Default: the broker's."
)
@click.option("-c", "--config", "configs", multiple=True, metavar="KEY=VALUE", help="A config of the topic.")
@click.option("--if-not-exists", is_flag=True, help="A topic that is there already is no failure.")
@click.option("--validate-only", is_flag=True, help="Only say whether it could be created.")
@bootstrap_option
@timeout_option
@output_option
def create(
    names: tuple[str, ...],
    partitions: int | None,
    replication_factor: int | None,
    configs: tuple[str, ...],
    if_not_exists: bool,
    validate_only: bool,
    bootstrap: str,
    timeout: float,
    output: str,
) -> None:
    """Create topics.

    \b
    Example: tailrace topic create orders -p 3 -c retention.ms=86400000
    """
    settings: dict[str, str] = {}
    for config in configs:
        key, equals, value = config.partition("=")
        if not key or not equals:
            raise click.UsageError(f"--config {config}: KEY=VALUE is expected")
        settings[key] = value
    with connect(bootstrap, timeout) as cluster:
        created: list[dict[str, Any]] = []
        for name in names:
            try:
                result = Admin(cluster).create_topic(
                    name,
                    partitions=partitions or -1,
                    replication_factor=replication_factor or -1,
                    configs=settings,
                    validate_only=validate_only,
                )
            except KafkaError as error:
                if if_not_exists and error.code == TOPIC_ALREADY_EXISTS:
                    continue
                raise
            if not validate_only:
                cluster.topic(name, expected=True)  # returns once it can be used
            created.append(
                {
                    "topic": name,
                    "topic_id": uuid_text(result.topic_id),
                    "partitions": result.num_partitions,
                    "replication_factor": result.replication_factor,
                }
            )
    if output == "json":
        print_json(created)
    else:
        for topic in created:
            click.echo(f"{'could create' if validate_only else 'created'} {topic['topic']}")


@command.command("list")
@bootstrap_option
@timeout_option
@output_option
def list_topics(bootstrap: str, timeout: float, output: str) -> None:
    """List topics.

    \b
    Example: tailrace topic list -o json
    """
    with connect(bootstrap, timeout) as cluster:
        topics = Admin(cluster).list_topics()
    rows = [(topic.name, len(topic.partitions), _replication(topic)) for topic in topics]
    if output == "json":
        print_json(
            [dict(zip(("topic", "partitions", "replication_factor"), row, strict=True)) for row in rows]
        )
    else:
        print_table(("TOPIC", "PARTITIONS", "REPLICAS"), rows)


@command.command("describe")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--configs", is_flag=True, help="Also every config, and where it comes from.")
@bootstrap_option
@timeout_option
@output_option
def describe(names: tuple[str, ...], configs: bool, bootstrap: str, timeout: float, output: str) -> None:
    """Show the partitions of topics: leader, replicas, offsets.

    \b
    Example: tailrace topic describe orders --configs
    """
    with connect(bootstrap, timeout) as cluster:
        admin = Admin(cluster)
        described = [_describe(admin, admin.describe_topic(name)) for name in names]
        for topic in described if configs else ():
            topic["configs"] = [_config(config) for config in admin.topic_configs(topic["topic"])]
    if output == "json":
        print_json(described)
        return
    columns = ("partition", "leader", "epoch", "replicas", "isr", "start", "end")
    for topic in described:
        click.echo(f"{topic['topic']}  id {topic['topic_id']}  partitions {len(topic['partitions'])}")
        rows = [[_cell(part[column]) for column in columns] for part in topic["partitions"]]
        print_table([column.upper() for column in columns], rows)
        if configs:
            shown = [[_cell(value) for value in config.values()] for config in topic["configs"]]
            print_table(("KEY", "VALUE", "SOURCE"), shown)


@command.command("delete")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@bootstrap_option
@timeout_option
@output_option
def delete(names: tuple[str, ...], bootstrap: str, timeout: float, output: str) -> None:
    """Delete topics.

    \b
    Example: tailrace topic delete orders
    """
    with connect(bootstrap, timeout) as cluster:
        for name in names:
            Admin(cluster).delete_topic(name)
            if output == "table":
                click.echo(f"deleted {name}")
    if output == "json":
        print_json([{"topic": name} for name in names])


def _replication(topic: MetadataResponseTopic) -> int:
    return max((len(partition.replica_nodes) for partition in topic.partitions), default=0)


def _describe(admin: Admin, topic: MetadataResponseTopic) -> dict[str, Any]:
    name = topic.name or ""
    led = [part.partition_index for part in topic.partitions if part.leader_id >= 0 and not part.error_code]
    starts, ends = (admin.find_offsets(name, dict.fromkeys(led, place)) for place in (EARLIEST, LATEST))
    return {
        "topic": name,
        "topic_id": uuid_text(topic.topic_id),
        "internal": topic.is_internal,
        "partitions": [_describe_partition(partition, starts, ends) for partition in topic.partitions],
    }


def _describe_partition(
    partition: MetadataResponsePartition, starts: Mapping[int, FoundOffset], ends: Mapping[int, FoundOffset]
) -> dict[str, Any]:
    start, end = starts.get(partition.partition_index), ends.get(partition.partition_index)
    return {
        "partition": partition.partition_index,
        "leader": partition.leader_id,
        "epoch": partition.leader_epoch,
        "replicas": partition.replica_nodes,
        "isr": partition.isr_nodes,
        "start": start.offset if start else None,
        "end": end.offset if end else None,
        "error": name_of(partition.error_code) if partition.error_code else None,
    }


def _config(config: DescribeConfigsResponseConfig) -> dict[str, Any]:
    source = CONFIG_SOURCES.get(config.config_source, str(config.config_source))
    return {"key": config.name, "value": config.value, "source": source}


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ",".join(str(item) for item in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - JSON
    return "-" if value is None else str(value)
