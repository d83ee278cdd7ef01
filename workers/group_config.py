"""The broker's configuration as coordinators read it."""

from tailrace.core.config import BrokerConfig
from tailrace.core.groups.runtime import GroupConfig


def group_config(config: BrokerConfig) -> GroupConfig:
    """The keys that coordinators obey."""
    integer = config.integer
    return GroupConfig(
        group_initial_rebalance_delay_ms=integer("group.initial.rebalance.delay.ms"),
        group_min_session_timeout_ms=integer("group.min.session.timeout.ms"),
        group_max_session_timeout_ms=integer("group.max.session.timeout.ms"),
        group_max_size=integer("group.max.size"),
        group_consumer_heartbeat_interval_ms=integer("group.consumer.heartbeat.interval.ms"),
        group_consumer_min_heartbeat_interval_ms=integer("group.consumer.min.heartbeat.interval.ms"),
        group_consumer_max_heartbeat_interval_ms=integer("group.consumer.max.heartbeat.interval.ms"),
        group_consumer_session_timeout_ms=integer("group.consumer.session.timeout.ms"),
        group_consumer_min_session_timeout_ms=integer("group.consumer.min.session.timeout.ms"),
        group_consumer_max_session_timeout_ms=integer("group.consumer.max.session.timeout.ms"),
        group_consumer_max_size=integer("group.consumer.max.size"),
        group_consumer_assignors=config.names("group.consumer.assignors"),
        group_consumer_migration_policy=config.text("group.consumer.migration.policy").lower(),
        offset_metadata_max_bytes=integer("offset.metadata.max.bytes"),
        offsets_retention_ms=integer("offsets.retention.minutes") * 60_000,
        offsets_retention_check_interval_ms=integer("offsets.retention.check.interval.ms"),
    )
