"""Which handler answers which request; no rules."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tailrace.core.protocol import apis
from tailrace.workers.gateway.handlers import (
    alter_configs,
    alter_partition_reassignments,
    alter_replica_log_dirs,
    api_versions,
    create_partitions,
    create_topics,
    delete_records,
    delete_topics,
    describe_cluster,
    describe_configs,
    describe_log_dirs,
    describe_producers,
    describe_quorum,
    describe_topic_partitions,
    elect_leaders,
    fetch,
    find_coordinator,
    group_batches,
    groups,
    incremental_alter_configs,
    init_producer_id,
    list_offsets,
    list_partition_reassignments,
    metadata,
    offset_for_leader_epoch,
    produce,
    raft_voters,
    unregister_broker,
)
from tailrace.workers.gateway.request import Request

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway

HANDLERS: "dict[int, Callable[[Gateway, Request], None]]" = {
    apis.PRODUCE: produce.handle,
    apis.FETCH: fetch.handle,
    apis.LIST_OFFSETS: list_offsets.handle,
    apis.METADATA: metadata.handle,
    apis.API_VERSIONS: api_versions.handle,
    apis.CREATE_TOPICS: create_topics.handle,
    apis.DELETE_TOPICS: delete_topics.handle,
    apis.DELETE_RECORDS: delete_records.handle,
    apis.INIT_PRODUCER_ID: init_producer_id.handle,
    apis.OFFSET_FOR_LEADER_EPOCH: offset_for_leader_epoch.handle,
    apis.DESCRIBE_CONFIGS: describe_configs.handle,
    apis.ALTER_CONFIGS: alter_configs.handle,
    apis.ALTER_REPLICA_LOG_DIRS: alter_replica_log_dirs.handle,
    apis.DESCRIBE_LOG_DIRS: describe_log_dirs.handle,
    apis.CREATE_PARTITIONS: create_partitions.handle,
    apis.INCREMENTAL_ALTER_CONFIGS: incremental_alter_configs.handle,
    apis.DESCRIBE_PRODUCERS: describe_producers.handle,
    apis.DESCRIBE_CLUSTER: describe_cluster.handle,
    apis.DESCRIBE_TOPIC_PARTITIONS: describe_topic_partitions.handle,
    apis.ELECT_LEADERS: elect_leaders.handle,
    apis.ALTER_PARTITION_REASSIGNMENTS: alter_partition_reassignments.handle,
    apis.LIST_PARTITION_REASSIGNMENTS: list_partition_reassignments.handle,
    apis.UNREGISTER_BROKER: unregister_broker.handle,
    apis.FIND_COORDINATOR: find_coordinator.handle,
    apis.DESCRIBE_QUORUM: describe_quorum.handle,
    apis.ADD_RAFT_VOTER: raft_voters.handle_add,
    apis.REMOVE_RAFT_VOTER: raft_voters.handle_remove,
    **dict.fromkeys(groups.APIS_OF_ONE_GROUP, groups.handle),
    **group_batches.HANDLERS,
}
