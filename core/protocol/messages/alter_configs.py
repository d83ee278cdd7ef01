"""AlterConfigs (33): a resource's dynamic configs become these and no others."""

from msgspec import Struct

from tailrace.core.protocol.schema import (
    Bool,
    Int8,
    Int16,
    Int32,
    NullableString,
    String,
    message,
)


class AlterConfigsRequestConfig(Struct, gc=False):
    """One config."""

    name: String = ""
    value: NullableString = None


class AlterConfigsRequestResource(Struct, gc=False):
    """All dynamic configs of one resource."""

    resource_type: Int8 = 0
    resource_name: String = ""
    configs: list[AlterConfigsRequestConfig] = []


@message(versions=(0, 2), flexible=2)
class AlterConfigsRequest(Struct, gc=False):
    """Configs to set, or only to check."""

    resources: list[AlterConfigsRequestResource] = []
    validate_only: Bool = False


class AlterConfigsResponseResource(Struct, gc=False):
    """What became of one resource."""

    error_code: Int16 = 0
    error_message: NullableString = None
    resource_type: Int8 = 0
    resource_name: String = ""


@message(versions=(0, 2), flexible=2)
class AlterConfigsResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Int32 = 0
    responses: list[AlterConfigsResponseResource] = []
