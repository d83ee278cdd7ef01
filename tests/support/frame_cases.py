"""Headers, versions and frames that are not as they should be: the same for any broker."""

import struct

from perf import wire
from tailrace.core.protocol.apis import (
    API_VERSIONS,
    APIS,
    DESCRIBE_CLUSTER,
    DESCRIBE_TOPIC_PARTITIONS,
    FETCH,
    LIST_OFFSETS,
    METADATA,
    PRODUCE,
)
from tailrace.core.protocol.messages.api_versions import ApiVersionsRequest
from tailrace.core.protocol.messages.describe_cluster import DescribeClusterRequest
from tailrace.core.protocol.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsRequestTopic,
)
from tailrace.core.protocol.messages.fetch import FetchRequest
from tailrace.core.protocol.messages.list_offsets import ListOffsetsRequest
from tailrace.core.protocol.messages.metadata import MetadataRequest
from tests.support.batches import batch, changed
from tests.support.data_cases import Cluster, produce
from tests.support.raw_client import framed

JUNK = {
    "one unknown tag": b"\x01\x05\x02ab",
    "tags out of order": b"\x02\x06\x01a\x05\x01b",
    "a tag twice": b"\x02\x05\x01a\x05\x01b",
    "an empty tag": b"\x01\x63\x00",
    "a tag without end": b"\x01\x05\x7fab",
    "more tags than bytes": b"\x7f",
    "a tag count without end": b"\xff\xff\xff\xff\xff\xff",
}


def headers(cluster: Cluster) -> None:
    """Tagged fields, client ids, bytes behind the message."""
    ask, keep = cluster.client.ask, cluster.keep
    names = MetadataRequest([], False)
    for what, tags in JUNK.items():
        keep(f"header: {what}", ask(METADATA, 12, names, tags=tags))
        flexible = b"".join((b"\x01", b"\0\0\0", tags))  # no topics, three flags, the message's own tags
        keep(f"message: {what}", ask(METADATA, 10, flexible))
    for what, client_id in (("null", None), ("empty", ""), ("long", "x" * 30_000), ("not ASCII", "grün ☃")):
        keep(f"client id: {what}", ask(METADATA, 12, names, client_id=client_id))
    bad = struct.pack(">hhih", METADATA, 12, 7, 2) + b"\xff\xfe\0" + b"\x01\0\0\0"
    keep("client id: no UTF-8", sent(cluster, bad))
    keep("client id: length -2", sent(cluster, struct.pack(">hhih", METADATA, 12, 7, -2) + b"\0\x01\0\0\0"))
    for version in (4, 8, 12):
        keep(f"trailing bytes v{version}", ask(METADATA, version, names, trailing=b"junk"))
    keep(
        "trailing bytes: produce",
        ask(PRODUCE, 9, produce("data", cluster.partition(), batch()), trailing=b"junk"),
    )
    keep(
        "trailing bytes: old produce",
        ask(PRODUCE, 3, produce("data", cluster.partition(), batch()), trailing=b"junk"),
    )
    keep("trailing bytes: fetch", ask(FETCH, 12, FetchRequest(max_wait_ms=0), trailing=b"junk"))
    keep("trailing bytes: list offsets", ask(LIST_OFFSETS, 7, ListOffsetsRequest(-1), trailing=b"\0"))
    keep("trailing bytes: versions", ask(API_VERSIONS, 0, b"", trailing=b"\0"))
    keep("cut short", ask(METADATA, 12, b"\x01\0"))
    keep("correlation id -1", ask(METADATA, 12, names, correlation_id=-1))
    described = DescribeTopicPartitionsRequest([DescribeTopicPartitionsRequestTopic("absent")])
    keep("describe: trailing", ask(DESCRIBE_TOPIC_PARTITIONS, 0, described, trailing=b"x"))


def sent(cluster: Cluster, body: bytes) -> str:
    """Whether a frame of these bytes is answered at all."""
    cluster.client.send(struct.pack(">i", len(body)) + body)
    answer = cluster.client.receive()
    return "closed" if answer is None else f"answered {answer[:4].hex()}"


def endings(cluster: Cluster) -> None:
    """Requests sent at once, of which one ends the connection: how many are answered before it ends."""
    good = framed(PRODUCE, 9, produce("data", cluster.partition(), batch()))
    bad = changed(batch(), crc=1)
    for what, last in {
        "acks=0 that fails": framed(PRODUCE, 9, produce("data", cluster.partition(), bad, acks=0)),
        "unknown key": framed(999, 0, b""),
        "version not served": framed(METADATA, 99, b""),
        "not a message": framed(METADATA, 12, b"\x7f"),
        "a size of 2 GiB": b"\x7f\xff\xff\xff",
        "a negative size": b"\xff\xff\xff\xff",
    }.items():
        cluster.client.send(good + good + framed(METADATA, 12, MetadataRequest([])) + good + last + good)
        answers = 0
        while cluster.client.receive() is not None:
            answers += 1
        cluster.keep(f"ended by {what}", f"{answers} answers")


def unserved(cluster: Cluster) -> None:
    """Keys nobody knows, versions below and above what is served."""
    ask, keep = cluster.client.ask, cluster.keep
    for key in (-1, 4, 5, 6, 7, 93, 999, 32767):
        body = struct.pack(">hhi", key, 0, 7) + wire.string("raw")
        keep(f"key {key}", sent(cluster, body))
    for key, api in APIS.items():
        if key == API_VERSIONS:
            continue
        for version in (-2, api.min_version - 1, api.max_version + 1, 32767):
            keep(f"{api.name} in version {version}, {api.max_version}", ask(key, version, b"\0\0\0\0"))
    for version in (-1, 5, 99, 32767):
        keep(f"ApiVersions v{version}", ask(API_VERSIONS, version, b""))
    keep("ApiVersions v3: no message", ask(API_VERSIONS, 3, b""))
    for name in ("a\n", "ü", "a" * 300, "a.b-c_1", ".a", "a."):
        outcome = ask(API_VERSIONS, 3, ApiVersionsRequest(name, "1"))
        keep(
            f"ApiVersions v3: name {name[:9]!r}",
            outcome["error_code"] if isinstance(outcome, dict) else outcome,
        )
    for version in range(3):
        keep(
            f"DescribeCluster v{version}: junk",
            ask(DESCRIBE_CLUSTER, version, DescribeClusterRequest(), trailing=b"a"),
        )
