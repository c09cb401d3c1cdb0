"""The page on the guard, held against its code."""

from django_meanwhile import conf
from django_meanwhile.guard import findings

from .pages import code, page

GUARD, LOGS = page("reference/guard"), page("reference/logs")


def test_the_modes_are_those_of_the_setting() -> None:
    """Each word that the setting accepts has its row, and no other has; the defaults are those of the code."""
    (table,) = (table for table in GUARD.tables() if table.head[0] == "`GUARD`")
    modes = [row[0].strip('"') for row in table.rows]
    assert modes == ["off", "warn", "repair"]
    assert all(conf._SCHEMA["GUARD"](mode) == mode for mode in modes)
    said = dict(zip(modes, table.column(""), strict=True))
    assert "The default without `DEBUG`" in said[conf.Settings().guard]
    assert "The default under `DEBUG`" in said["warn"]


def test_a_place_is_told_at_the_powers_of_ten() -> None:
    """As both pages say."""
    findings.forget()
    told = [number for _ in range(1234) if (number := findings.count("a place")) is not None]
    findings.forget()
    assert told == [1, 10, 100, 1000]
    for each in (GUARD, LOGS):
        assert "at the first time, the 10th, the 100th and so on" in " ".join(each.text.split())


def test_the_logger_is_named() -> None:
    """The page leads to the messages."""
    assert f"`{findings.logger.name}`" in GUARD.text
    assert findings.logger.name in {code(table.heading)[0] for table in LOGS.tables()}
