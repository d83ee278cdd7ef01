"""DescribeConfigs (32): the configs of topics, brokers and groups.

Version 1 brought the places that a value may come from, 3 types and documentation.
"""

from typing import Annotated

from msgspec import Struct

from tailrace.core.protocol.schema import (
    IGNORABLE,
    Bool,
    Int8,
    Int16,
    Int32,
    NullableString,
    String,
    message,
    since,
)


class DescribeConfigsRequestResource(Struct, gc=False):
    """A resource; null keys mean all."""

    resource_type: Int8 = 0
    resource_name: String = ""
    configuration_keys: list[String] | None = None


@message(versions=(1, 4), flexible=4)
class DescribeConfigsRequest(Struct, gc=False):
    """Whose configs, and how much about them."""

    resources: list[DescribeConfigsRequestResource] = []
    include_synonyms: Bool = False
    include_documentation: Annotated[Bool, since(3)] = False


class DescribeConfigsResponseSynonym(Struct, gc=False):
    """A place that sets the config; the first one counts."""

    name: String = ""
    value: NullableString = None
    source: Int8 = 0


class DescribeConfigsResponseConfig(Struct, gc=False):
    """One config."""

    name: String = ""
    value: NullableString = None
    read_only: Bool = False
    config_source: Int8 = -1
    is_sensitive: Bool = False
    synonyms: list[DescribeConfigsResponseSynonym] = []
    config_type: Annotated[Int8, since(3), IGNORABLE] = 0
    documentation: Annotated[NullableString, since(3), IGNORABLE] = ""


class DescribeConfigsResponseResult(Struct, gc=False):
    """The configs of one resource."""

    error_code: Int16 = 0
    error_message: NullableString = None
    resource_type: Int8 = 0
    resource_name: String = ""
    configs: list[DescribeConfigsResponseConfig] = []


@message(versions=(1, 4), flexible=4)
class DescribeConfigsResponse(Struct, gc=False):
    """The answer."""

    throttle_time_ms: Int32 = 0
    results: list[DescribeConfigsResponseResult] = []
