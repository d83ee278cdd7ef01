"""Error codes and the exceptions that carry them."""

from tailrace.core import errors
from tailrace.core.errors import KafkaError, is_retriable, name_of


def test_codes_have_names() -> None:
    assert name_of(0) == "NONE"
    assert name_of(-1) == "UNKNOWN_SERVER_ERROR"
    assert name_of(errors.NOT_LEADER_OR_FOLLOWER) == "NOT_LEADER_OR_FOLLOWER"
    assert name_of(9999) == "ERROR_9999"


def test_some_failures_pass() -> None:
    assert is_retriable(errors.NOT_LEADER_OR_FOLLOWER)
    assert not is_retriable(errors.TOPIC_ALREADY_EXISTS)
    assert not is_retriable(errors.NONE)


def test_an_error_says_what_it_is() -> None:
    assert str(KafkaError(errors.INVALID_CONFIG, "no such key")) == "INVALID_CONFIG: no such key"
    assert str(KafkaError(errors.INVALID_CONFIG)) == "INVALID_CONFIG"
