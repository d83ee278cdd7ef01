"""The configs of one group win over the broker's, from its members' next heartbeats on."""

from tailrace.core import errors
from tailrace.core.config_groups import HEARTBEAT, SESSION
from tailrace.core.groups.runtime import GroupConfig
from tailrace.core.metadata.records import RESOURCE_GROUP, ConfigRecord
from tests.support.consumer_groups import GROUP, GroupBench


def configure(bench: GroupBench, key: str, value: str | None, group: str = GROUP) -> None:
    """A config is committed."""
    record = ConfigRecord(resource_type=RESOURCE_GROUP, name=group, key=key, value=value)
    image = bench.runtime.image
    image.replay([record], image.metadata_offset + 1)


def test_a_group_may_have_a_longer_session() -> None:
    bench = GroupBench()
    configure(bench, SESSION, "60000")
    configure(bench, SESSION, "45000", group="another")
    one = bench.member("one")
    one.beat()
    bench.runtime.advance(59_000)
    assert one.beat().error_code == errors.NONE
    configure(bench, SESSION, None)
    one.beat()
    bench.runtime.advance(59_000)
    assert one.beat().error_code == errors.UNKNOWN_MEMBER_ID


def test_a_group_may_beat_oftener() -> None:
    bench = GroupBench(config=GroupConfig(group_consumer_heartbeat_interval_ms=5_000))
    configure(bench, HEARTBEAT, "50")
    assert bench.join("one").heartbeat_interval_ms == 50
