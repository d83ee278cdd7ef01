"""What Produce and Fetch tell a client that asked the wrong broker."""

from msgspec import Struct

from tailrace.core.protocol.schema import Int32, NullableString, String


class CurrentLeader(Struct, gc=False):
    """Who leads a partition."""

    leader_id: Int32 = -1
    leader_epoch: Int32 = -1


class NodeEndpoint(Struct, gc=False):
    """Where to reach a leader that is named in the response."""

    node_id: Int32 = 0
    host: String = ""
    port: Int32 = 0
    rack: NullableString = None
