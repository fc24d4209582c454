"""Dates that a question names, as spans of message times.

People tell of things soon after they happened, so a span has an inner part (worth 1) that reaches a little beyond the
date itself, and an outer part (worth less) around it.
"""

import calendar
import datetime as dt
import re
from collections.abc import Iterator
from typing import NamedTuple

from aforesaid.core.words import fold

DAY_US = 86_400_000_000
_EPOCH = dt.date(1970, 1, 1).toordinal()
YEARS = 60  # a month without a year is looked for in at most so many years
YEAR_WORTH = 0.2  # a year alone says little
OUTER_WORTH = 0.5
_FIRST, _LAST = dt.date(1, 1, 2), dt.date(9999, 12, 1)

# Twelve names a language; the same name of several languages may stand for one month only.
_NAMES = """january february march april may june july august september october november december
januar februar marz april mai juni juli august september oktober november dezember
janvier fevrier mars avril mai juin juillet aout septembre octobre novembre decembre
enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre
gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre
janeiro fevereiro marco abril maio junho julho agosto setembro outubro novembro dezembro
januari februari maart april mei juni juli augustus september oktober november december
januari februari mars april maj juni juli augusti september oktober november december
januar februar marts april maj juni juli august september oktober november december
января февраля марта апреля мая июня июля августа сентября октября ноября декабря
jan feb mar apr may jun jul aug sep oct nov dec""".split()
MONTHS = {name: place % 12 + 1 for place, name in reversed(list(enumerate(_NAMES)))} | {"sept": 9}
# Names that are other words too: they count next to a number, or after a word that leads to a date.
_DOUBTFUL = frozenset("may march mars mar mai marco maj august mei jan sep dec jun juli april june".split())
_LEADING = re.compile(
    r"\b(?:in|on|of|by|since|until|till|before|after|during|last|this|next|early|mid|late|end|im|seit|en|de|em|di|a|i)\s+$"
)
_DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
_NUMBERS = {w: n for n, w in enumerate("zero one two three four five six seven eight nine ten eleven twelve".split())}
_NUMBERS |= {"a": 1, "an": 1, "couple of": 2, "a couple of": 2, "few": 3, "a few": 3}
_UNITS = {"day": 1.0, "week": 7.0, "month": 30.4, "year": 365.25}
_PLAIN = {"today": 0, "yesterday": 1, "heute": 0, "gestern": 1, "vorgestern": 2, "hoy": 0, "ayer": 1, "oggi": 0}

_MONTH = re.compile(
    r"(?:\b(\d{1,2})(?:st|nd|rd|th|er|\.|º)?\s+(?:of\s+|de\s+)?)?\b("
    + "|".join(sorted(MONTHS, key=len, reverse=True))
    + r")\b\.?(?:\s+(\d{1,2})(?:st|nd|rd|th)?(?!\d))?(?:,?\s*(?:of\s+|de\s+)?(\d{4})\b)?"
)
_ISO = re.compile(r"\b(\d{4})[-/](\d{1,2})(?:[-/](\d{1,2}))?\b")
_NUMERIC = re.compile(r"\b(\d{1,2})([./])(\d{1,2})\2(\d{4})\b")
_YEAR = re.compile(r"\b((?:19|20)\d\d)\b")
_COUNT = "|".join(sorted(_NUMBERS, key=len, reverse=True))
_AGO = re.compile(rf"\b(\d{{1,3}}|{_COUNT})\s+(day|week|month|year)s?\s+ago\b")
_LAST_UNIT = re.compile(r"\b(last|past|previous|this)\s+(week|month|year|" + "|".join(_DAYS) + r")\b")
_PLAIN_DAY = re.compile(r"\b(" + "|".join(_PLAIN) + r")\b")
_HINT = re.compile(r"\d|ago\b|last|past|previous|this|day\b|" + "|".join([*_PLAIN, *MONTHS]))


class Span(NamedTuple):
    """Times from ``start_us`` (in it) to ``end_us`` (not in it), and what a message of that time is worth."""

    start_us: int
    end_us: int
    worth: float


def spans_in(question: str, asked_us: int, oldest_us: int, newest_us: int) -> list[Span]:
    """The spans that the question's dates stand for; empty when it names none.

    A date without a year is meant in every year between the oldest and the newest message. Relative dates count from
    ``asked_us``. *Cost*: 2 µs when there is nothing like a date, else 20 µs.
    """
    text = fold(question) if question else ""
    if not _HINT.search(text):
        return []
    asked, newest = _date(asked_us), _date(newest_us)
    years = range(max(_date(oldest_us).year, newest.year - YEARS), newest.year + 1)
    out: list[Span] = []
    for year, month, day in _dates(text):
        for each in years if year is None else (year,):
            out += _around(each, month, day)
    out += _relative(text, asked, asked_us)
    if not out:
        for found in _YEAR.findall(text):
            out += _around(int(found), None, None)
    return out


def _date(moment_us: int) -> dt.date:
    days = min(max(moment_us // DAY_US, _FIRST.toordinal() - _EPOCH), _LAST.toordinal() - _EPOCH)
    return dt.date.fromordinal(days + _EPOCH)


def _us(date: dt.date, days: float = 0) -> int:
    return int((date.toordinal() - _EPOCH + days) * DAY_US)


def _dates(text: str) -> Iterator[tuple[int | None, int, int | None]]:
    """(year, month, day) of each explicit date with a month."""
    for match in _MONTH.finditer(text):
        before, name, after, year = match.groups()
        if name in _DOUBTFUL and not (before or after or year) and not _LEADING.search(text[: match.start(2)]):
            continue
        day = before or after
        yield int(year) if year else None, MONTHS[name], int(day) if day else None
    for match in _ISO.finditer(text):
        yield int(match[1]), int(match[2]), int(match[3]) if match[3] else None
    for match in _NUMERIC.finditer(text):
        first, second, year = int(match[1]), int(match[3]), int(match[4])
        day_first = match[2] == "." or first > 12
        yield year, second if day_first else first, first if day_first else second


def _around(year: int, month: int | None, day: int | None) -> list[Span]:
    if not 1 < year < 9998:
        return []
    if month is None:
        return [Span(_us(dt.date(year, 1, 1)), _us(dt.date(year + 1, 1, 1)), YEAR_WORTH)]
    if not 1 <= month <= 12 or (day is not None and not 1 <= day <= calendar.monthrange(year, month)[1]):
        return []
    date = dt.date(year, month, day or 1)
    if day:
        return [Span(_us(date, -1), _us(date, 11), 1.0), Span(_us(date, -3), _us(date, 31), OUTER_WORTH)]
    length = calendar.monthrange(year, month)[1]
    return [Span(_us(date), _us(date, length), 1.0), Span(_us(date, 14), _us(date, 65), OUTER_WORTH)]


def _relative(text: str, asked: dt.date, asked_us: int) -> Iterator[Span]:
    now = asked_us + 1
    for match in _PLAIN_DAY.finditer(text):
        start = _us(asked, -_PLAIN[match[1]])
        yield Span(start, start + DAY_US, 1.0)
        yield Span(start, now, OUTER_WORTH)
    for match in _AGO.finditer(text):
        count = int(match[1]) if match[1].isdecimal() else _NUMBERS[match[1]]
        days = _UNITS[match[2]]
        middle = _us(asked, -count * days)
        yield Span(int(middle - days / 2 * DAY_US), int(middle + (days / 2 + 1) * DAY_US), 1.0)
        yield Span(int(middle - 1.5 * days * DAY_US), int(middle + (1.5 * days + 1) * DAY_US), OUTER_WORTH)
    for match in _LAST_UNIT.finditer(text):
        last, unit = match[1] != "this", match[2]
        if unit == "year":
            yield from _around(asked.year - last, None, None)
        elif unit == "month":
            months = asked.year * 12 + asked.month - 1 - last
            yield from _around(months // 12, months % 12 + 1, None)
        else:
            start = _us(asked, -asked.weekday() - 7 * last)
            end = start + 7 * DAY_US
            if unit != "week":
                back = (asked.weekday() - _DAYS.index(unit) - 1) % 7 + 1
                start = _us(asked, -back)
                end = start + DAY_US
            yield Span(start, end, 1.0)
            yield Span(start - 2 * DAY_US, max(end, now), OUTER_WORTH)
