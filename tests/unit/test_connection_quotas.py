"""How many clients may come, from where and how fast."""

import pytest

from tailrace.core.config import load
from tailrace.core.config_keys import ConfigError
from tailrace.core.connection_quotas import (
    BURST_S,
    DELAY_MS_MAX,
    RATE_MAX,
    UNTIL_ONE_GOES,
    ConnectionQuotas,
    parse_overrides,
)

MANY = 2**31 - 1
HERE, THERE = "10.0.0.1", "10.0.0.2"


def of(
    most: int = MANY, per_address: int = MANY, overrides: dict[str, int] | None = None, rate: int = RATE_MAX
) -> ConnectionQuotas:
    quotas = ConnectionQuotas()
    quotas.set_limits(most, per_address, overrides or {}, rate)
    return quotas


def test_who_comes_while_there_is_no_room_waits_until_one_goes() -> None:
    quotas = of(2)
    assert quotas.enter(HERE, 0)
    assert quotas.enter(None, 0)
    assert quotas.delay_ms(0) == UNTIL_ONE_GOES
    quotas.leave(None)
    assert quotas.delay_ms(0) == 0


def test_an_address_has_its_own_bound_and_some_have_another() -> None:
    quotas = of(per_address=1, overrides={THERE: 2})
    assert [quotas.enter(HERE, 0) for _ in range(2)] == [True, False]
    assert [quotas.enter(THERE, 0) for _ in range(3)] == [True, True, False]
    assert all(quotas.enter(None, 0) for _ in range(5))  # by the Unix socket
    quotas.leave(HERE)
    assert quotas.enter(HERE, 0)
    assert quotas.count == 8


def test_those_beyond_a_lowered_bound_are_told() -> None:
    quotas = of(5)
    for _ in range(4):
        quotas.enter(HERE, 0)
    quotas.set_limits(1, MANY, {}, RATE_MAX)
    assert quotas.excess == 3


def test_a_rate_allows_for_a_burst_and_then_holds() -> None:
    quotas, now_ms, came = of(rate=5), 100_000, 0
    while quotas.delay_ms(now_ms) == 0:
        quotas.enter(HERE, now_ms)
        came += 1
    assert came in (5 * BURST_S, 5 * BURST_S + 1)
    end_ms = now_ms + 60_000
    while now_ms < end_ms:
        delay_ms = quotas.delay_ms(now_ms)
        assert delay_ms <= 201
        now_ms += delay_ms
        if delay_ms == 0:
            quotas.enter(HERE, now_ms)
            came += 1
    assert 5 * 70 - 5 <= came <= 5 * 70 + 5


def test_nobody_waits_longer_than_kafkas_bound_for_a_rate() -> None:
    quotas = of(rate=0)
    for _ in range(50):
        quotas.enter(HERE, 5)
    assert quotas.delay_ms(5) == DELAY_MS_MAX


def test_a_rate_that_is_taken_back_holds_nobody() -> None:
    quotas = of(rate=1)
    for _ in range(50):
        quotas.enter(HERE, 0)
    quotas.set_limits(MANY, MANY, {}, RATE_MAX)
    assert quotas.delay_ms(0) == 0


def test_overrides_are_read_as_kafka_reads_them() -> None:
    assert parse_overrides("localhost:100, ::1:5,") == {"localhost": 100, "::1": 5}
    assert parse_overrides("") == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x", "Error parsing configuration property"),
        ("127.0.0.1:x", 'For input string: "x"'),
        ("a b:1", "contains invalid addresses : a b"),
    ],
)
def test_overrides_that_kafka_refuses_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_overrides(text)


def test_a_file_cannot_lock_everybody_out() -> None:
    with pytest.raises(ConfigError, match="can be set to zero only if"):
        load({"max.connections.per.ip": "0"})
    load({"max.connections.per.ip": "0", "max.connections.per.ip.overrides": f"{HERE}:1"})
