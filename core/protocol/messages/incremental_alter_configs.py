"""IncrementalAlterConfigs (44): single configs are set, deleted, added to or taken from."""

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

SET = 0  # operations
DELETE = 1
APPEND = 2
SUBTRACT = 3


class IncrementalAlterConfigsRequestConfig(Struct, gc=False):
    """One change."""

    name: String = ""
    config_operation: Int8 = 0
    value: NullableString = None


class IncrementalAlterConfigsRequestResource(Struct, gc=False):
    """The changes to one resource."""

    resource_type: Int8 = 0
    resource_name: String = ""
    configs: list[IncrementalAlterConfigsRequestConfig] = []


@message(versions=(0, 1), flexible=1)
class IncrementalAlterConfigsRequest(Struct, gc=False):
    """Configs to change, or only to check."""

    resources: list[IncrementalAlterConfigsRequestResource] = []
    validate_only: Bool = False


class IncrementalAlterConfigsResponseResource(Struct, gc=False):
    """What became of one resource."""

    error_code: Int16 = 0
    error_message: NullableString = None
    resource_type: Int8 = 0
    resource_name: String = ""


@message(versions=(0, 1), flexible=1)
class IncrementalAlterConfigsResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Int32 = 0
    responses: list[IncrementalAlterConfigsResponseResource] = []
