"""The requests this broker knows: keys, versions, headers, classes; and what ApiVersions answers.

DECLARED are those whose messages we can write and read. APIS are those of them that the broker serves: it
advertises no other, and takes the others' keys for unknown ones. To serve one is to drop its `served=False`.

Message modules are imported by key on first use.
"""

from sys import modules

from msgspec import Struct

from tailrace.core.errors import UNSUPPORTED_VERSION
from tailrace.core.protocol.messages.api_versions import (
    ApiVersionsResponse,
    ApiVersionsResponseApi,
    ApiVersionsResponseFinalizedFeature,
    ApiVersionsResponseSupportedFeature,
)
from tailrace.core.protocol.schema import NEVER

PRODUCE = 0
FETCH = 1
LIST_OFFSETS = 2
METADATA = 3
OFFSET_COMMIT = 8
OFFSET_FETCH = 9
FIND_COORDINATOR = 10
JOIN_GROUP = 11
HEARTBEAT = 12
LEAVE_GROUP = 13
SYNC_GROUP = 14
DESCRIBE_GROUPS = 15
LIST_GROUPS = 16
API_VERSIONS = 18
CREATE_TOPICS = 19
DELETE_TOPICS = 20
DELETE_RECORDS = 21
INIT_PRODUCER_ID = 22
OFFSET_FOR_LEADER_EPOCH = 23
DESCRIBE_CONFIGS = 32
ALTER_CONFIGS = 33
ALTER_REPLICA_LOG_DIRS = 34
DESCRIBE_LOG_DIRS = 35
CREATE_PARTITIONS = 37
DELETE_GROUPS = 42
ELECT_LEADERS = 43
INCREMENTAL_ALTER_CONFIGS = 44
ALTER_PARTITION_REASSIGNMENTS = 45
LIST_PARTITION_REASSIGNMENTS = 46
OFFSET_DELETE = 47
DESCRIBE_QUORUM = 55
DESCRIBE_CLUSTER = 60
DESCRIBE_PRODUCERS = 61
UNREGISTER_BROKER = 64
CONSUMER_GROUP_HEARTBEAT = 68
CONSUMER_GROUP_DESCRIBE = 69
DESCRIBE_TOPIC_PARTITIONS = 75
ADD_RAFT_VOTER = 80
REMOVE_RAFT_VOTER = 81


class Api(Struct, frozen=True):
    """One request of the protocol."""

    key: int
    name: str
    module: str  # of tailrace.core.protocol.messages
    min_version: int  # advertised
    max_version: int
    flexible_since: int
    min_decodable: int  # smaller advertised versions are refused
    served: bool  # has a handler

    @property
    def request(self) -> type[Struct]:
        """The request's class."""
        return self._message("Request")

    @property
    def response(self) -> type[Struct]:
        """The response's class."""
        return self._message("Response")

    def serves(self, version: int) -> bool:
        """Whether requests of this version can be decoded and answered."""
        return self.min_decodable <= version <= self.max_version

    def request_header_version(self, version: int) -> int:
        """2 has tagged fields, 1 has none."""
        return 2 if version >= self.flexible_since else 1

    def response_header_version(self, version: int) -> int:
        """1 has tagged fields, 0 has none."""
        return 1 if version >= self.flexible_since and self.key != API_VERSIONS else 0

    def _message(self, kind: str) -> type[Struct]:
        path = f"tailrace.core.protocol.messages.{self.module}"
        if path not in modules:
            __import__(path)
        found: type[Struct] = getattr(modules[path], self.name + kind)
        return found


def _api(
    key: int,
    name: str,
    module: str,
    versions: tuple[int, int],
    flexible: int,
    *,
    min_decodable: int = -1,
    served: bool = True,
) -> Api:
    first, last = versions
    smallest = first if min_decodable < 0 else min_decodable
    return Api(key, name, module, first, last, flexible, smallest, served)


DECLARED: dict[int, Api] = {
    api.key: api
    for api in (
        # librdkafka takes a broker for a modern one only if Produce 0-2 are in its range (KAFKA-18659)
        _api(PRODUCE, "Produce", "produce", (0, 13), 9, min_decodable=3),
        _api(FETCH, "Fetch", "fetch", (4, 18), 12),
        _api(LIST_OFFSETS, "ListOffsets", "list_offsets", (1, 11), 6),
        _api(METADATA, "Metadata", "metadata", (0, 13), 9),
        _api(OFFSET_COMMIT, "OffsetCommit", "offset_commit", (2, 10), 8),
        _api(OFFSET_FETCH, "OffsetFetch", "offset_fetch", (1, 10), 6),
        _api(FIND_COORDINATOR, "FindCoordinator", "find_coordinator", (0, 6), 3),
        _api(JOIN_GROUP, "JoinGroup", "join_group", (0, 9), 6),
        _api(HEARTBEAT, "Heartbeat", "heartbeat", (0, 4), 4),
        _api(LEAVE_GROUP, "LeaveGroup", "leave_group", (0, 5), 4),
        _api(SYNC_GROUP, "SyncGroup", "sync_group", (0, 5), 4),
        _api(DESCRIBE_GROUPS, "DescribeGroups", "describe_groups", (0, 6), 5),
        _api(LIST_GROUPS, "ListGroups", "list_groups", (0, 5), 3),
        _api(API_VERSIONS, "ApiVersions", "api_versions", (0, 4), 3),
        _api(CREATE_TOPICS, "CreateTopics", "create_topics", (2, 7), 5),
        _api(DELETE_TOPICS, "DeleteTopics", "delete_topics", (1, 6), 4),
        _api(DELETE_RECORDS, "DeleteRecords", "delete_records", (0, 2), 2),
        _api(INIT_PRODUCER_ID, "InitProducerId", "init_producer_id", (0, 5), 2),
        _api(OFFSET_FOR_LEADER_EPOCH, "OffsetForLeaderEpoch", "offset_for_leader_epoch", (2, 4), 4),
        _api(DESCRIBE_CONFIGS, "DescribeConfigs", "describe_configs", (1, 4), 4),
        _api(ALTER_CONFIGS, "AlterConfigs", "alter_configs", (0, 2), 2),
        _api(ALTER_REPLICA_LOG_DIRS, "AlterReplicaLogDirs", "alter_replica_log_dirs", (1, 2), 2),
        _api(DESCRIBE_LOG_DIRS, "DescribeLogDirs", "describe_log_dirs", (1, 5), 2),
        _api(CREATE_PARTITIONS, "CreatePartitions", "create_partitions", (0, 3), 2),
        _api(DELETE_GROUPS, "DeleteGroups", "delete_groups", (0, 2), 2),
        _api(ELECT_LEADERS, "ElectLeaders", "elect_leaders", (0, 2), 2),
        _api(INCREMENTAL_ALTER_CONFIGS, "IncrementalAlterConfigs", "incremental_alter_configs", (0, 1), 1),
        _api(
            ALTER_PARTITION_REASSIGNMENTS,
            "AlterPartitionReassignments",
            "alter_partition_reassignments",
            (0, 1),
            0,
        ),
        _api(
            LIST_PARTITION_REASSIGNMENTS,
            "ListPartitionReassignments",
            "list_partition_reassignments",
            (0, 0),
            0,
        ),
        _api(OFFSET_DELETE, "OffsetDelete", "offset_delete", (0, 0), NEVER),
        _api(DESCRIBE_QUORUM, "DescribeQuorum", "describe_quorum", (0, 2), 0),
        _api(DESCRIBE_CLUSTER, "DescribeCluster", "describe_cluster", (0, 2), 0),
        _api(DESCRIBE_PRODUCERS, "DescribeProducers", "describe_producers", (0, 0), 0),
        _api(UNREGISTER_BROKER, "UnregisterBroker", "unregister_broker", (0, 0), 0),
        _api(CONSUMER_GROUP_HEARTBEAT, "ConsumerGroupHeartbeat", "consumer_group_heartbeat", (0, 1), 0),
        _api(CONSUMER_GROUP_DESCRIBE, "ConsumerGroupDescribe", "consumer_group_describe", (0, 1), 0),
        _api(DESCRIBE_TOPIC_PARTITIONS, "DescribeTopicPartitions", "describe_topic_partitions", (0, 0), 0),
        _api(ADD_RAFT_VOTER, "AddRaftVoter", "add_raft_voter", (0, 1), 0),
        _api(REMOVE_RAFT_VOTER, "RemoveRaftVoter", "remove_raft_voter", (0, 0), 0),
    )
}
APIS = {key: api for key, api in DECLARED.items() if api.served}


def api_versions_response(
    request_version: int,
    *,
    supported_features: list[ApiVersionsResponseSupportedFeature] | None = None,
    finalized_features: list[ApiVersionsResponseFinalizedFeature] | None = None,
    finalized_features_epoch: int = -1,
) -> tuple[int, ApiVersionsResponse]:
    """The version to encode the answer in, and the answer.

    An unknown version is answered in version 0, naming only the range of ApiVersions itself, as Kafka does:
    the client then asks again in a version that both know.
    """
    known = APIS[API_VERSIONS]
    if not known.serves(request_version):
        return 0, ApiVersionsResponse(UNSUPPORTED_VERSION, [_advertised(known)])
    return request_version, ApiVersionsResponse(
        api_keys=[_advertised(api) for api in APIS.values()],
        supported_features=supported_features or [],
        finalized_features=finalized_features or [],
        finalized_features_epoch=finalized_features_epoch,
    )


def _advertised(api: Api) -> ApiVersionsResponseApi:
    return ApiVersionsResponseApi(api.key, api.min_version, api.max_version)
