"""Times: what clients write becomes microseconds and back; nothing else gets through."""

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aforesaid.errors import Invalid
from aforesaid.times import MAX_US, iso, iso_millis_naive, parse_time

JUNE_US = 1_749_551_286_658_000


@pytest.mark.parametrize(
    "text",
    [
        "2025-06-10T10:28:06.658Z",
        "2025-06-10T10:28:06.658z",
        "2025-06-10t10:28:06.658000",
        "2025-06-10 10:28:06.658",
        "2025-06-10T10:28:06,658Z",
        "2025-06-10T10:28:06.6580009Z",
        "2025-06-10T10:28:06.658000999999+00:00",
        "2025-06-10T12:28:06.658+02:00",
        "2025-06-10T12:28:06.658 02:00",
        "2025-06-10T05:58:06.658-0430",
        "20250610T102806.658Z",
        " 2025-06-10T10:28:06.658Z\n",
        "1749551286658",
        1_749_551_286_658,
        1_749_551_286.658,
        1_749_551_286_658.0,
        JUNE_US,
        float(JUNE_US),
    ],
)
def test_one_moment_in_many_spellings(text: str | int | float) -> None:
    assert parse_time(text) == JUNE_US


def test_short_forms() -> None:
    assert parse_time("1970-01-01") == 0
    assert parse_time(0) == 0
    assert parse_time("2025-06-10") == parse_time("20250610") == parse_time("2025-06-10T00:00Z")
    assert parse_time("9999-12-31T23:59:59.999999Z") == MAX_US


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "yesterday", "2025", "2025-13-01", "2025-02-30", "2025-06-10T25:00:00", "2025-06-10T10:28:60Z",
        "2025-06-10X10:28:06", "2025-W24-2", "2025W242", "2025-06-10T10:28:06 UTC", "12345678X", "٢٠٢٥-٠٦-١٠",
        "1969-12-31T23:59:59Z", "1970-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "0001-01-01",
        "2025-06-10T10:28:06\x00", "2025-06-10T10:28:06\ud800", "9" * 5000, "0" * 65, "10000-01-01",
        -1, -0.5, 10**40, float("nan"), float("inf"), float("-inf"), 1e300, True, None, [], {}, b"2025-06-10",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(Invalid) as caught:
        parse_time(value, "messages", 3, "created_at")
    assert caught.value.field == ("messages", 3, "created_at")


def test_rendering() -> None:
    assert iso(JUNE_US) == "2025-06-10T10:28:06.658000Z"
    assert iso(0) == "1970-01-01T00:00:00.000000Z"
    assert iso_millis_naive(1_705_706_578_223_999) == "2024-01-19T23:22:58.223"


@given(st.integers(0, MAX_US))
def test_written_times_read_back_equal(us: int) -> None:
    assert parse_time(iso(us)) == us
    assert parse_time(iso_millis_naive(us)) == us - us % 1000


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(9998, 12, 31)),  # noqa: DTZ001 - the zone is the other argument
    st.integers(-24 * 60 + 1, 24 * 60 - 1),
)
def test_zones_agree_with_the_calendar(moment: datetime, minutes: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    us = parse_time(zoned.isoformat())
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us) == zoned


@given(st.one_of(st.text(), st.floats(), st.integers()))
def test_anything_is_a_time_or_invalid(value: str | int | float) -> None:
    with contextlib.suppress(Invalid):
        assert 0 <= parse_time(value) <= MAX_US
