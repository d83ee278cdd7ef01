"""ElectLeaders (43): give partitions another leader now.

Version 1 brought the type of election and an error for the whole response.
"""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import Int8, Int16, Int32, NullableString, String, message, since

PREFERRED, UNCLEAN = 0, 1  # election types: the first of the replicas; any that lives, if none is in sync


class ElectLeadersRequestTopic(Struct, gc=False):
    """The partitions of one topic."""

    topic: String = ""
    partitions: list[Int32] = []


@message(versions=(0, 2), flexible=2)
class ElectLeadersRequest(Struct, gc=False):
    """Which partitions; null means all."""

    election_type: Annotated[Int8, since(1)] = PREFERRED
    topic_partitions: list[ElectLeadersRequestTopic] | None = []
    timeout_ms: Int32 = 60_000


class ElectLeadersResponsePartition(Struct, gc=False):
    """How one election went."""

    partition_id: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = None


class ElectLeadersResponseTopic(Struct, gc=False):
    """The partitions of one topic."""

    topic: String = ""
    partition_result: list[ElectLeadersResponsePartition] = []


@message(versions=(0, 2), flexible=2)
class ElectLeadersResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Int32 = 0
    error_code: Annotated[Int16, since(1)] = 0
    replica_election_results: list[ElectLeadersResponseTopic] = []
