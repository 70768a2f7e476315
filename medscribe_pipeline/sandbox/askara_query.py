"""Filters, order and paging of Askara's collections, as documented for `GET /audios`.

A query is worked out once and kept until the collection changes: walking five thousand records in pages of a hundred
filters and sorts them once, not fifty times.
"""

from __future__ import annotations

import unicodedata
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from medscribe_pipeline.sandbox.corpus import Record
    from medscribe_pipeline.sandbox.world import World

__all__ = ["Collection", "QueryError"]

_OPERATORS = ("between", "gt", "gte", "lt", "lte")
_MAX_PAGE_SIZE = 100
_DEFAULT_PAGE_SIZE = 20
_KEPT_QUERIES = 64
_EARLIEST = datetime.min.replace(tzinfo=UTC)


class QueryError(Exception):
    """A parameter the API does not take, or a value it cannot read. The message names the parameter only."""


class Collection:
    """One listed resource: which parameters it takes and which records they select.

    Args:
        world: Whose records.
        name: `audios` or `notes`.
        equals: Query parameter (`patient`) -> how to read a record's values for it (`patient=x`, `patient[]=x`).
        dates: Fields with range filters (`updatedAt[gte]=`), order and `exists`.
        order: Further fields that can be ordered by.
        text: What `search` looks into.
        also: Parameters that do not select (`expand[]`).
        strict: Refuse unknown parameters instead of ignoring them, so that a client's typo is noticed.
    """

    def __init__(
        self,
        world: World,
        name: str,
        *,
        equals: Mapping[str, Callable[[Record], Sequence[str | None]]],
        dates: Sequence[str],
        order: Sequence[str],
        text: Callable[[Record], str],
        also: Sequence[str] = (),
        strict: bool = True,
    ) -> None:
        self._world = world
        self._name = name
        self._equals = equals
        self._dates = tuple(dates)
        self._order = (*order, *dates)
        self._text = text
        self._also = frozenset({"page", "itemsPerPage", *also})
        self._strict = strict
        self._kept: OrderedDict[tuple[int, tuple[tuple[str, str], ...]], list[Record]] = OrderedDict()

    def page(self, parameters: Sequence[tuple[str, str]], hidden: Callable[[Record], bool]) -> list[Record]:
        """The records of one page.

        Args:
            parameters: The query string, repeated names included, in its order.
            hidden: Records left out unless the query asks for them by name (see `exists[archivedAt]`).

        Raises:
            QueryError: A parameter or its value is not accepted.
        """
        number = _number(parameters, "page", 1)
        size = _number(parameters, "itemsPerPage", _DEFAULT_PAGE_SIZE)
        if number < 1:
            raise QueryError("page")
        if size > _MAX_PAGE_SIZE or (size == 0 and number > 1):
            raise QueryError("itemsPerPage")
        selecting = tuple((name, value) for name, value in parameters if name not in self._also)
        matches = self._matches(selecting, hidden)
        return matches[(number - 1) * size : number * size]

    def _matches(self, parameters: tuple[tuple[str, str], ...], hidden: Callable[[Record], bool]) -> list[Record]:
        with self._world.lock:
            key = (self._world.version(self._name), parameters)
            if key not in self._kept:
                self._kept[key] = self._select(parameters, hidden)
                if len(self._kept) > _KEPT_QUERIES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _select(self, parameters: tuple[tuple[str, str], ...], hidden: Callable[[Record], bool]) -> list[Record]:
        tests: list[Callable[[Record], bool]] = []
        orders: list[tuple[str, bool]] = []
        allowed: dict[str, set[str]] = {}
        for name, value in parameters:
            field, _, operator = name.removesuffix("]").partition("[")
            if name in {f"order[{known}]" for known in self._order}:
                orders.append((operator, _choice(name, value, asc=False, desc=True)))
            elif field in self._equals and operator == "":
                allowed.setdefault(field, set()).add(value)
            elif field in self._dates and operator in _OPERATORS:
                tests.append(_date_test(name, field, operator, value))
            elif name in {f"exists[{known}]" for known in self._dates}:
                tests.append(_exists_test(operator, wanted=_choice(name, value, true=True, false=False)))
            elif name == "search":
                tests.append(self._search_test(value))
            elif self._strict:
                raise QueryError(name)
        tests.extend(self._equals_test(field, values) for field, values in allowed.items())
        if not any(name == "exists[archivedAt]" for name, _ in parameters):
            tests.append(lambda record: not hidden(record))
        found = [record for record in self._world.records(self._name).values() if all(test(record) for test in tests)]
        # Stable sorts from the last criterion to the first; the uuid before all, so that no order is accidental.
        found.sort(key=lambda record: str(record["uuid"]))
        for field, descending in reversed(orders):
            found.sort(key=_sort_key(field, is_date=field in self._dates), reverse=descending)
        return found

    def _equals_test(self, field: str, values: set[str]) -> Callable[[Record], bool]:
        read = self._equals[field]
        return lambda record: any(value in values for value in read(record))

    def _search_test(self, wanted: str) -> Callable[[Record], bool]:
        needle = _plain(wanted)
        return lambda record: needle in _plain(self._text(record))


def _number(parameters: Sequence[tuple[str, str]], name: str, default: int) -> int:
    given = dict(parameters).get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdecimal()):
        raise QueryError(name)
    return int(given)


def _choice(name: str, value: str, **meanings: bool) -> bool:
    if value not in meanings:
        raise QueryError(name)
    return meanings[value]


def _moment(name: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise QueryError(name) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _date_test(name: str, field: str, operator: str, value: str) -> Callable[[Record], bool]:
    low_text, _, high_text = value.partition("..") if operator == "between" else (value, "", value)
    low, high = _moment(name, low_text), _moment(name, high_text)
    compare: Callable[[datetime], bool] = {
        "between": lambda moment: low <= moment <= high,
        "gt": lambda moment: moment > low,
        "gte": lambda moment: moment >= low,
        "lt": lambda moment: moment < low,
        "lte": lambda moment: moment <= low,
    }[operator]
    return lambda record: record[field] is not None and compare(datetime.fromisoformat(record[field]))


def _exists_test(field: str, *, wanted: bool) -> Callable[[Record], bool]:
    return lambda record: (record[field] is not None) is wanted


def _sort_key(field: str, *, is_date: bool) -> Callable[[Record], Any]:
    # Null sorts first, as it does in MySQL.
    if is_date:
        return lambda record: datetime.fromisoformat(record[field]) if record[field] else _EARLIEST
    return lambda record: record[field] or ""


def _plain(text: str) -> str:
    """Lower case without accents."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(character for character in decomposed if not unicodedata.combining(character)).casefold()
