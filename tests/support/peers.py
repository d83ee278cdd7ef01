"""What to do when a peer is not on this machine: say so and skip, or fail where that was asked for."""

import os

import pytest

REQUIRED = "TAILRACE_REQUIRE_PEERS"


def require(missing: str | None) -> None:
    """Skip the test when something is missing; .ci/run sets TAILRACE_REQUIRE_PEERS, and then it fails."""
    if missing is None:
        return
    if os.environ.get(REQUIRED):
        pytest.fail(f"{missing} ({REQUIRED} is set)")
    pytest.skip(missing)
