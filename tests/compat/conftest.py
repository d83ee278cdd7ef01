"""Fixtures of the tests with clients that are not ours."""

from collections.abc import Iterator

import pytest

from tests.compat.members.jvm import Java, Jvm
from tests.support.peers import require


@pytest.fixture(scope="session")
def java() -> Iterator[Java]:
    """Apache's consumers, in one JVM for all tests of this test process."""
    library = Java()
    yield library
    library.jvm.stop()


@pytest.fixture
def jvm(java: Java) -> Jvm:
    """The JVM that runs Kafka's own tools."""
    require(java.missing())
    return java.jvm
