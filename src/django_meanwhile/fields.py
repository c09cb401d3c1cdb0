"""A datetime column that is UTC on every vendor, whatever ``USE_TZ`` says.

The columns are written by our own statements on the database's clock, so they
must not depend on a connection's time zone. PostgreSQL and MySQL hold a plain
timestamp in UTC, SQLite a text of fixed width that sorts by time.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.models.expressions import Func, Value
from django.utils import timezone

_COLUMNS = {
    "postgresql": "timestamp",
    "sqlite": "text",
    "mysql": "datetime(6)",
}


def parse_utc(value: dt.datetime | str) -> dt.datetime:
    """Make an aware UTC datetime of what a driver returned for such a column."""
    if isinstance(value, str):
        value = dt.datetime.fromisoformat(value)
    return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


def naive_utc(value: dt.datetime) -> dt.datetime:
    """Make the naive UTC datetime that such a column holds.

    A naive value is in the current time zone, as everywhere in Django.
    """
    if timezone.is_naive(value):
        value = timezone.make_aware(value)
    return value.astimezone(dt.UTC).replace(tzinfo=None)


def utc_parameter(value: dt.datetime, vendor: str) -> dt.datetime | str:
    """Make the statement parameter for such a column on ``vendor``."""
    naive = naive_utc(value)
    return naive.isoformat(" ", "microseconds") if vendor == "sqlite" else naive


def for_users(value: dt.datetime) -> dt.datetime:
    """Give a UTC time the form that ``django.utils.timezone.now()`` has in this project."""
    return value if settings.USE_TZ else timezone.make_naive(value)


if TYPE_CHECKING:
    _DateTimeField = models.DateTimeField[Any, Any]
else:
    _DateTimeField = models.DateTimeField


class UTCDateTimeField(_DateTimeField):
    """See the module. In Python: aware UTC with ``USE_TZ``, else naive local time."""

    def get_internal_type(self) -> str:
        """Keep Django's own converters, which know of time zones, away."""
        return "UTCDateTimeField"

    def db_type(self, connection: Any) -> str:
        """Return the column type of each supported vendor."""
        return _COLUMNS[connection.vendor]

    def from_db_value(self, value: Any, _expression: Any, _connection: Any) -> dt.datetime | None:
        """Convert the driver's value."""
        return None if value is None else for_users(parse_utc(value))

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:  # noqa: ARG002, FBT001, FBT002 - Django's
        """Convert to the column's form."""
        if isinstance(value, dt.datetime):
            return utc_parameter(value, connection.vendor)
        return value

    def get_prep_value(self, value: Any) -> Any:
        """Keep naive values as they are: ``get_db_prep_value`` gives them a meaning."""
        return self.to_python(models.Field.get_prep_value(self, value))


class DatabaseNow(Func):
    """The database's clock plus ``seconds``, in UTC, of the statement's own moment."""

    output_field = UTCDateTimeField()

    def __init__(self, seconds: float = 0.0, **extra: Any) -> None:
        super().__init__(Value(float(seconds)), **extra)

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        """``clock_timestamp()``, never ``now()``, which is the transaction's start."""
        return self.as_sql(
            compiler,
            connection,
            template=(
                "((SELECT clock_timestamp() AT TIME ZONE 'UTC')"
                " + make_interval(secs => (%(expressions)s)::double precision))"
            ),
        )

    def as_sqlite(self, compiler: Any, connection: Any, **_extra: Any) -> Any:
        """SQLite knows milliseconds; the text is padded to the column's width."""
        return self.as_sql(
            compiler,
            connection,
            template=(
                "(strftime('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f', 'now', (%(expressions)s) || ' seconds') || '000')"
            ),
        )
