"""Errors, by what the caller can do about them.

```
MedscribeError
├── ConfigError             a person must change a setting, a file or a credential
├── ProviderContractError   an answer is not what the API documents; retrying will not help
├── Retriable               the other side is down or unreachable; try again
│   └── Deferred            ... not before `until`
├── Rejected                the other side understood the request and refused it
├── WarehouseError          our own database
│   ├── WarehouseUnusable   ... a person must do something; a `ConfigError`, too
│   └── WarehouseTrouble    ... is away or in the way for a moment; run again
└── Busy                    another run of ours holds what this one needs
```

Messages are fixed text. What varies goes into `code`, `status`, `field_paths` and `context`, which hold
codes, setting names, counts and times only: never a payload, a URL, a vendor's body or anything a patient
could be recognised by. Raise them `from None` where the cause prints its input (pydantic, SQLAlchemy, httpx).
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

__all__ = [
    "Busy",
    "ConfigError",
    "Deferred",
    "MedscribeError",
    "ProviderContractError",
    "Rejected",
    "Retriable",
    "WarehouseError",
    "WarehouseTrouble",
    "WarehouseUnusable",
    "place_of",
]


class MedscribeError(Exception):
    """Root of all errors this project raises on purpose.

    Args:
        message: Fixed text that says what happened and what to do.
        code: Short snake_case code, stable across releases, that people filter and count by.
        status: HTTP status of the answer, where there was one.
        field_paths: Paths of the offending fields (`sections.2.key`), never their values.
        context: Further safe facts (setting names, file names, line numbers, counts).
    """

    exit_code: ClassVar[int] = 1
    default_code: ClassVar[str] = "error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        field_paths: Sequence[str] = (),
        context: Mapping[str, str | int | float] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.status = status
        self.field_paths = tuple(field_paths)
        self.context = dict(context or {})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as it is: other processes hand on what went wrong, and some of its kinds take more than a message."""
        return _as_it_was, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        """The message with its code and safe context, for a terminal or a log line."""
        facts = [f"code={self.code}"]
        if self.status is not None:
            facts.append(f"status={self.status}")
        if self.field_paths:
            facts.append(f"fields={','.join(self.field_paths)}")
        facts.extend(f"{key}={value}" for key, value in self.context.items())
        return f"{self.message} ({' '.join(facts)})"


def _as_it_was(kind: type[MedscribeError], args: tuple[Any, ...], facts: Mapping[str, Any]) -> MedscribeError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error


class ConfigError(MedscribeError):
    """A setting, a file or a credential is missing or wrong; nothing was done."""

    exit_code = 2
    default_code = "config"


class ProviderContractError(MedscribeError):
    """An answer does not have the documented shape, so the stream stops before it stores nonsense."""

    default_code = "contract"


class Retriable(MedscribeError):
    """The other side could not be reached or failed on its own account, after our bounded retries."""

    exit_code = 3
    default_code = "unreachable"


class Deferred(Retriable):
    """The other side asked us to come back later than we are willing to wait.

    Args:
        until: Aware UTC time before which asking again is pointless.
    """

    default_code = "deferred"

    def __init__(
        self,
        message: str,
        *,
        until: datetime,
        code: str | None = None,
        status: int | None = None,
        context: Mapping[str, str | int | float] | None = None,
    ) -> None:
        super().__init__(
            message,
            code=code,
            status=status,
            context={**(context or {}), "until": until.isoformat(timespec="seconds")},
        )
        self.until = until


class Rejected(MedscribeError):
    """The other side refused this request and will refuse it again."""

    default_code = "rejected"


class WarehouseError(MedscribeError):
    """Our own database does not do what it is asked. It concerns the run and never one record of it: nobody goes on."""

    default_code = "warehouse"


class WarehouseUnusable(WarehouseError, ConfigError):
    """The warehouse cannot be used until a person changes a setting, a right or the disk."""

    exit_code = 2


class WarehouseTrouble(WarehouseError):
    """The warehouse is away or in the way for a moment; what was open is undone, and the next run completes it."""

    exit_code = 3


class Busy(MedscribeError):
    """Another run holds the lock on what this run needs; nothing is wrong, try again when it has ended."""

    default_code = "busy"


def place_of(error: BaseException) -> str:
    """Where an error that nobody foresaw arose, and its type; not its words, which may quote a record.

    >>> try:
    ...     {}["Testa Patient"]
    ... except KeyError as unforeseen:
    ...     place_of(unforeseen).split(":")[0]
    'KeyError'
    """
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}:{Path(where.filename).name}:{where.lineno}"
