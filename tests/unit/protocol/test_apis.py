"""The table of requests, and what ApiVersions answers."""

import subprocess
import sys

import pytest

from tailrace.core.errors import NONE, UNSUPPORTED_VERSION, ProtocolError
from tailrace.core.protocol.apis import API_VERSIONS, APIS, DECLARED, FETCH, PRODUCE, api_versions_response
from tailrace.core.protocol.compile import decode, encode
from tailrace.core.protocol.frames import parse_request_header, request_frame
from tailrace.core.protocol.messages.api_versions import (
    ApiVersionsRequest,
    ApiVersionsResponse,
    ApiVersionsResponseFinalizedFeature,
    names_software,
)
from tailrace.workers.gateway.router import HANDLERS


@pytest.mark.parametrize("version", range(5))
def test_api_versions_names_every_request(version: int) -> None:
    encoded_as, response = api_versions_response(version)
    assert encoded_as == version
    read = decode(ApiVersionsResponse, version, encode(response, version))
    assert read.error_code == NONE
    assert {(api.api_key, api.min_version, api.max_version) for api in read.api_keys} == {
        (api.key, api.min_version, api.max_version) for api in APIS.values()
    }


@pytest.mark.parametrize("version", [-1, 5, 99])
def test_an_unknown_version_is_answered_in_version_0_with_the_known_range(version: int) -> None:
    """(R) franz-go asks in version 5 first; Kafka 4.3 answers this way, and the client asks again."""
    encoded_as, response = api_versions_response(version)
    assert encoded_as == 0
    assert encode(response, 0) == bytes.fromhex("0023 00000001 0012 0000 0004")
    assert response.error_code == UNSUPPORTED_VERSION


def test_features_are_tagged_fields_of_flexible_versions() -> None:
    features = [ApiVersionsResponseFinalizedFeature("transaction.version", 2, 2)]
    _, response = api_versions_response(4, finalized_features=features, finalized_features_epoch=9)
    read = decode(ApiVersionsResponse, 4, encode(response, 4))
    assert (read.finalized_features, read.finalized_features_epoch) == (features, 9)
    assert decode(ApiVersionsResponse, 2, encode(response, 2)).finalized_features == []


def test_old_produce_versions_are_advertised_but_not_served() -> None:
    """(R) librdkafka looks for them in the range before it believes in record batches (KAFKA-18659)."""
    assert APIS[PRODUCE].min_version == 0
    assert [APIS[PRODUCE].serves(version) for version in (0, 2, 3, 13, 14)] == [
        False,
        False,
        True,
        True,
        False,
    ]


def test_a_request_that_is_declared_but_not_served_is_unknown_to_the_broker() -> None:
    """Neither advertised nor taken: there is no handler for it."""
    _, response = api_versions_response(4)
    advertised = {api.api_key for api in response.api_keys}
    for api in DECLARED.values():
        frame = b"".join(request_frame(api, api.max_version, 7, "tester", [bytearray()]))
        assert (api.key in advertised) is (api.key in APIS) is api.served
        if api.served:
            assert parse_request_header(frame, 4, len(frame))[:3] == (api.key, api.max_version, 7)
        else:
            with pytest.raises(ProtocolError, match="not served"):
                parse_request_header(frame, 4, len(frame))


def test_header_versions_follow_flexibility() -> None:
    fetch = APIS[FETCH]
    assert [fetch.request_header_version(version) for version in (11, 12)] == [1, 2]
    assert [fetch.response_header_version(version) for version in (11, 12)] == [0, 1]


def test_the_table_knows_the_classes_of_each_request() -> None:
    for key, api in DECLARED.items():
        assert api.key == key
        assert api.request.__name__ == f"{api.name}Request"
        assert api.response.__name__ == f"{api.name}Response"


def test_only_the_messages_that_are_asked_for_are_imported() -> None:
    code = (
        "import sys; from tailrace.core.protocol import frames, compile, apis; "
        f"apis.APIS[{API_VERSIONS}].request; print(*sorted(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "tailrace.core.protocol.messages.api_versions" in loaded
    assert "tailrace.core.protocol.messages.fetch" not in loaded


@pytest.mark.parametrize(
    ("name", "accepted"),
    [("librdkafka", True), ("kgo", True), ("a.b-c1", True), ("9", True)]
    + [(name, False) for name in ("", "-", ".a", "a-", "a b", "a_b", "é", "a\n")],
)
def test_a_client_names_its_software_as_kafka_wants_it(name: str, accepted: bool) -> None:
    assert names_software(ApiVersionsRequest(name, "1.0"), 3) is accepted
    assert names_software(ApiVersionsRequest("a", name), 4) is accepted
    assert names_software(ApiVersionsRequest(name, name), 2)


def test_every_request_that_is_served_has_a_handler_and_no_other() -> None:
    assert HANDLERS.keys() == APIS.keys()
