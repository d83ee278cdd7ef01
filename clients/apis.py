"""The requests that the wire client sends: those our broker serves, and some that it does not serve yet."""

from tailrace.core.protocol.apis import APIS, CONSUMER_GROUP_DESCRIBE, Api

DELETE_RECORDS = 21
DESCRIBE_CONFIGS = 32
CREATE_PARTITIONS = 37
INCREMENTAL_ALTER_CONFIGS = 44

_OTHERS = (
    Api(DELETE_RECORDS, "DeleteRecords", "delete_records", 0, 2, 2, 0),
    Api(DESCRIBE_CONFIGS, "DescribeConfigs", "describe_configs", 1, 4, 4, 1),
    Api(CREATE_PARTITIONS, "CreatePartitions", "create_partitions", 0, 3, 2, 0),
    Api(CONSUMER_GROUP_DESCRIBE, "ConsumerGroupDescribe", "consumer_group_describe", 0, 1, 0, 0),
    Api(INCREMENTAL_ALTER_CONFIGS, "IncrementalAlterConfigs", "incremental_alter_configs", 0, 1, 1, 0),
)
KNOWN: dict[int, Api] = {**{api.key: api for api in _OTHERS}, **APIS}
