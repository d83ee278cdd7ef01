"""Regular expressions over topic names (KIP-848 subscriptions), in RE2's language as in Kafka.

RE2 takes time in proportion to the text and bounded memory, whatever the pattern; Python's `re` can be made
to run for hours by a pattern of ten letters, and the pattern comes from outside.
"""

from collections.abc import Iterable
from typing import Any, Protocol, cast

from tailrace.core.errors import INVALID_REGULAR_EXPRESSION, KafkaError


class _Compiled(Protocol):
    def fullmatch(self, text: str) -> object | None: ...


def check_pattern(pattern: str) -> None:
    """Raises KafkaError INVALID_REGULAR_EXPRESSION if this is none, or one that is too large."""
    _compiled(pattern)


def topics_matching(pattern: str, topics: Iterable[str]) -> frozenset[str]:
    """The topics whose whole name matches; none if it is no pattern, as another version of RE2 may find."""
    try:
        fullmatch = _compiled(pattern).fullmatch
    except KafkaError:
        return frozenset()
    return frozenset(topic for topic in topics if fullmatch(topic))


def _compiled(pattern: str) -> _Compiled:
    import re2 as package  # pyright: ignore[reportMissingTypeStubs]  # google-re2 ships none

    module = cast(Any, package)
    options = module.Options()
    options.log_errors = False
    try:
        return cast(_Compiled, module.compile(pattern, options))
    except module.error as error:
        reason = error.args[0] if error.args else b""
        raise KafkaError(
            INVALID_REGULAR_EXPRESSION,
            f"SubscribedTopicRegex `{pattern}` is not a valid regular expression:"
            f" {reason.decode(errors='replace') if isinstance(reason, bytes) else reason}.",
        ) from error
