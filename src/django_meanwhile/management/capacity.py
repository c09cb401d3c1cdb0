"""How many connections a database server allows, and how many it has given out. Asked by ``check`` and ``checks``."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connections


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How many connections a server allows, keeps for superusers, and has given out. None: it does not count them."""

    allowed: int | None
    reserved: int = 0
    in_use: int = 0
    #: What the role that asks, and the database, may have at most; None: without a limit of its own.
    role_limit: int | None = None
    database_limit: int | None = None

    @property
    def usable(self) -> int | None:
        """How many there can be at once, for this role in this database."""
        if self.allowed is None:
            return None
        limits = [limit for limit in (self.role_limit, self.database_limit) if limit is not None]
        return min([self.allowed - self.reserved, *limits])

    @property
    def free(self) -> int | None:
        """How many more can be opened; limits of the role and the database aside, whose users are not counted."""
        return None if self.allowed is None else self.allowed - self.reserved - self.in_use

    @property
    def arithmetic(self) -> str:
        """How ``usable`` comes about."""
        if self.allowed is None:
            return "without a limit"
        parts = [f"max_connections {self.allowed} - {self.reserved} reserved for superusers"]
        if self.role_limit is not None:
            parts.append(f"this role may have {self.role_limit}")
        if self.database_limit is not None:
            parts.append(f"this database {self.database_limit}")
        return ", ".join(parts)


def capacity_of(database: str) -> Capacity:
    """Ask the server; PostgreSQL alone of the supported vendors counts connections."""
    connection = connections[database]
    if connection.vendor != "postgresql":
        return Capacity(allowed=None)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name, setting::int FROM pg_settings "
            "WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')"
        )
        limits = dict(cursor.fetchall())
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        (in_use,) = cursor.fetchone()
        # Superusers are above both limits; -1 is none.
        cursor.execute(
            "SELECT nullif(rolconnlimit, -1), nullif(datconnlimit, -1) FROM pg_roles, pg_database "
            "WHERE rolname = session_user AND datname = current_database() AND NOT rolsuper"
        )
        role_limit, database_limit = cursor.fetchone() or (None, None)
    allowed = limits.pop("max_connections")
    return Capacity(
        allowed=allowed,
        reserved=sum(limits.values()),
        in_use=in_use,
        role_limit=role_limit,
        database_limit=database_limit,
    )
