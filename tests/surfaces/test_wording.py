"""Durations, counts and tables, as people read and write them."""

import argparse

import pytest

from django_meanwhile.management import wording


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("1.5h", 5400),
        ("15m", 900),
        ("2h", 7200),
        ("1h30m", 5400),
        ("7d", 604_800),
        ("2W", 1_209_600),
        ("0", 0),
        (" 1h 5s ", 3605),
    ],
)
def test_durations_are_read(text, seconds):
    """Numbers of seconds and numbers with units, alone or together, mean what they say."""
    assert wording.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5", "5x", "h", "1h30", "nan", "inf", "1e99", "11000d", "s5"])
def test_what_is_no_duration_is_refused_with_an_example(text):
    """Anything else is refused, and the refusal shows how to write one."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"is no duration.*1h30m"):
        wording.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.25, "0.2 s"),
        (4, "4 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (604_800, "7 d"),
        (90_061, "1 d 1 h"),
    ],
)
def test_durations_are_written_with_two_units(seconds, text):
    """A duration is written with its two largest units, below ten seconds with a tenth."""
    assert wording.duration(seconds) == text


def test_counts_that_reached_their_limit_say_so():
    """A count that was stopped at its limit ends in a plus."""
    assert (wording.bounded(999, 1000), wording.bounded(1000, 1000)) == ("999", "1000+")
    assert (wording.jobs(1), wording.jobs(1000, 1000)) == ("1 job", "1000+ jobs")


def test_a_near_name_is_suggested_and_otherwise_all_are_listed():
    """A slip of the pen gets its name, anything else the choice."""
    assert wording.did_you_mean("defualt", ["default", "mail"]) == 'Did you mean "default"?'
    assert wording.did_you_mean("zzz", ["default", "mail"]) == 'There is: "default", "mail".'
    assert wording.did_you_mean("zzz", []) == "There is: none."


def test_a_table_aligns_and_escapes():
    """Columns are aligned, numbers to the right; a value with a line break stays in its row."""
    lines = wording.table(("NAME", "N"), [("a\nb", "5"), ("mail", "12")], right=[1])
    assert lines == ["NAME   N", r"a\nb   5", "mail  12"]


def test_text_that_is_no_json_is_shown_as_it_is():
    """A damaged row is shown, not an error."""
    assert wording.pretty_json("{broken") == "{broken"
    assert wording.indented("a\x1b[31m\nb", "  ") == "  a\\x1b[31m\n  b"
