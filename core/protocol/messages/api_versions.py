"""ApiVersions (18): which requests and features the broker serves.

Version 3 made it flexible, except that the response header never is: the client reads it before it knows. A
request of an unknown version is answered in version 0.
"""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    Bool,
    Int16,
    Int32,
    Int64,
    String,
    message,
    since,
    tag,
)


@message(versions=(0, 4), flexible=3)
class ApiVersionsRequest(Struct, gc=False):
    """Asked first on a connection."""

    client_software_name: Annotated[String, since(3), IGNORABLE] = ""
    client_software_version: Annotated[String, since(3), IGNORABLE] = ""


class ApiVersionsResponseApi(Struct, gc=False):
    """The versions of one request."""

    api_key: Int16 = 0
    min_version: Int16 = 0
    max_version: Int16 = 0


class ApiVersionsResponseSupportedFeature(Struct, gc=False):
    """The levels of a feature that the broker knows."""

    name: String = ""
    min_version: Int16 = 0
    max_version: Int16 = 0


class ApiVersionsResponseFinalizedFeature(Struct, gc=False):
    """The level of a feature that the cluster has agreed on."""

    name: String = ""
    max_version_level: Int16 = 0
    min_version_level: Int16 = 0


@message(versions=(0, 4), flexible=3)
class ApiVersionsResponse(Struct, gc=False):
    """The answer."""

    error_code: Int16 = 0
    api_keys: list[ApiVersionsResponseApi] = []
    throttle_time_ms: Annotated[Int32, since(1), IGNORABLE] = 0
    supported_features: Annotated[list[ApiVersionsResponseSupportedFeature], since(3), tag(0), IGNORABLE] = []
    finalized_features_epoch: Annotated[Int64, since(3), tag(1), IGNORABLE] = -1
    finalized_features: Annotated[list[ApiVersionsResponseFinalizedFeature], since(3), tag(2), IGNORABLE] = []
    zk_migration_ready: Annotated[Bool, since(3), tag(3), IGNORABLE] = False


def names_software(request: ApiVersionsRequest, version: int) -> bool:
    """Whether the client says who it is as Kafka wants it; if not, the answer is INVALID_REQUEST.

    From version 3 on: letters, digits, inner dots and dashes.
    """
    if version < 3:
        return True
    return _is_label(request.client_software_name) and _is_label(request.client_software_version)


def _is_label(text: str) -> bool:
    inner = text.replace(".", "").replace("-", "")
    return inner.isascii() and inner.isalnum() and text[0].isalnum() and text[-1].isalnum()
