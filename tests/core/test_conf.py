"""The setting MEANWHILE: every key, every rule, and what a mistake is answered with."""

import math
from dataclasses import FrozenInstanceError, fields

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_meanwhile import conf
from django_meanwhile.conf import DAY, Retention, Settings, WorkerSettings, get_settings, read_settings


def read(value):
    with override_settings(MEANWHILE=value):
        return read_settings()


def problems(value) -> list[tuple[str, str]]:
    return [(problem.message, problem.hint) for problem in read(value)[1]]


def the_problem(value) -> tuple[str, str]:
    (only,) = problems(value)
    return only


def test_every_key_may_be_left_out():
    """Without the setting, and with an empty one, the defaults are in force and nothing is wrong."""
    with override_settings():
        from django.conf import settings

        if hasattr(settings, "MEANWHILE"):
            del settings.MEANWHILE
        assert read_settings() == (Settings(), ())
    assert read({}) == (Settings(), ())
    assert read({"WORKER": {}, "RETENTION": {}}) == (Settings(), ())


def test_the_documented_defaults():
    """Lease 30 s, beat 10 s, sweep 5 s, poll 1 s, grace 25 s; 7, 30, 7 and 90 days of history."""
    settings = read({})[0]
    assert (settings.lease, settings.beat, settings.sweep, settings.poll, settings.grace) == (30, 10, 5, 1, 25)
    kept = settings.retention
    assert (kept.successful, kept.failed, kept.cancelled, kept.quarantined) == (7 * DAY, 30 * DAY, 7 * DAY, 90 * DAY)


# key -> a value other than the default, what it becomes
GIVEN = {
    "LEASE": (60, 60.0),
    "BEAT": (3, 3.0),
    "SWEEP": (2.5, 2.5),
    "POLL": (0.5, 0.5),
    "GRACE": (0, 0.0),
    "STOP_GRACE": (5, 5.0),
    "SQLITE_WAL": (False, False),
    "TASK_MODULES": (["a.jobs", "b.jobs"], ("a.jobs", "b.jobs")),
    "CONTEXT": (["tenants.context.Tenant"], ("tenants.context.Tenant",)),
}
WORKER = {
    "threads": (4, 4),
    "coroutines": (0, 0),
    "processes": (7, 7),
    "queues": (["mail", "default"], ("mail", "default")),
    "max_tasks": (1000, 1000),
}
RETENTION = dict.fromkeys(("successful", "failed", "cancelled", "quarantined"), (60, 60.0))


def test_the_schema_has_a_field_for_every_key_and_a_key_for_every_field():
    """No key is accepted and ignored, and no setting can only be had by its default."""
    assert {key.lower() for key in conf._SCHEMA} == {f.name for f in fields(Settings)}
    assert set(conf._WORKER) == {f.name for f in fields(WorkerSettings)}
    assert set(conf._RETENTION) == {f.name for f in fields(Retention)}


@pytest.mark.parametrize("key", GIVEN)
def test_a_given_value_is_in_force(key):
    """Each key changes its own setting."""
    given, expected = GIVEN[key]
    settings, wrong = read({key: given})
    assert not wrong
    assert getattr(settings, key.lower()) == expected
    assert type(getattr(settings, key.lower())) is type(expected)


@pytest.mark.parametrize(
    ("section", "key"), [("WORKER", key) for key in WORKER] + [("RETENTION", key) for key in RETENTION]
)
def test_a_given_value_of_a_section_is_in_force(section, key):
    """Each key of WORKER and RETENTION changes its own setting and leaves the others alone."""
    given, expected = (WORKER if section == "WORKER" else RETENTION)[key]
    settings, wrong = read({section: {key: given}})
    assert not wrong
    changed = {
        f.name: getattr(getattr(settings, section.lower()), f.name)
        for f in fields(getattr(settings, section.lower()))
        if getattr(getattr(settings, section.lower()), f.name) != getattr(getattr(Settings(), section.lower()), f.name)
    }
    assert changed == {key: expected}


@pytest.mark.parametrize("key", RETENTION)
def test_history_can_be_kept_for_ever(key):
    """None is no age: such jobs are never pruned."""
    settings, wrong = read({"RETENTION": {key: None}})
    assert not wrong
    assert getattr(settings.retention, key) is None


SECONDS = {
    "LEASE": (1, 3600),
    "BEAT": (0.1, 1200),
    "SWEEP": (0.1, 600),
    "POLL": (0.05, 60),
    "GRACE": (0, 86_400),
    "STOP_GRACE": (0.1, 600),
}


@pytest.mark.parametrize("key", SECONDS)
def test_seconds_have_a_range(key):
    """Both ends are inside; beyond them, and for what is no number, the message says the range and the value."""
    low, high = SECONDS[key]
    for value in (low, high):
        messages = [message for message, _ in problems({key: value})]
        assert not [message for message in messages if "must be a number" in message]
    for value in (low - 0.01, high + 0.01, -1, math.inf, math.nan, True, "5", None, [5]):
        messages = [message for message, _ in problems({key: value})]
        rule = f'MEANWHILE["{key}"] is {value!r}: it must be a number of seconds from {low:g} to {high:g}.'
        assert rule in messages


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("threads", -1),
        ("threads", 1001),
        ("threads", 8.0),
        ("threads", True),
        ("threads", "8"),
        ("coroutines", 10_001),
        ("processes", 1001),
        ("max_tasks", 0),
        ("max_tasks", 1.5),
    ],
)
def test_whole_numbers_are_whole_and_in_range(section, value):
    """Slots and budgets are counted: no fractions, no truth values, no text."""
    message, hint = the_problem({"WORKER": {section: value}})
    assert f'MEANWHILE["WORKER"]["{section}"] is {value!r}: it must be a whole number from' in message
    assert hint


@pytest.mark.parametrize("value", ["default", b"default", 5, ["default", ""], ["default", 7], {"default": 1}, None])
def test_names_come_in_a_list(value):
    """A bare string, the classic mistake, is not taken for a list of letters."""
    message, _ = the_problem({"WORKER": {"queues": value}})
    assert "string" in message
    message, _ = the_problem({"TASK_MODULES": value})
    assert "string" in message


@pytest.mark.parametrize("value", [0, 1, "yes", None])
def test_a_flag_is_true_or_false(value):
    """What could be taken for a truth value is not one."""
    message, _ = the_problem({"SQLITE_WAL": value})
    assert message.endswith("it must be True or False.")


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ({"GRACE": "25"}, 'Write "GRACE": 25, or int(...) around'),
        ({"POLL": "0.5"}, 'Write "POLL": 0.5, or float(...) around'),
        ({"WORKER": {"threads": "8"}}, 'Write "threads": 8, or int(...) around'),
        ({"EMBEDDED": "1"}, '"EMBEDDED": os.environ.get("EMBEDDED") == "1"'),
        ({"WORKER": {"queues": "mail"}}, 'Write "queues": ["mail"]'),
        ({"GRACE": "long"}, "Change the value"),
    ],
)
def test_text_from_the_environment_is_answered_with_how_to_read_it(value, hint):
    """The usual mistake of twelve-factor settings: the hint is the line that turns the text into what it says."""
    assert hint in the_problem(value)[1]


@pytest.mark.parametrize("value", [-1, "7 days", True, math.inf])
def test_an_age_is_seconds_or_none(value):
    """RETENTION takes seconds."""
    message, _ = the_problem({"RETENTION": {"failed": value}})
    assert "must be a number of seconds" in message


@pytest.mark.parametrize("value", [None, [], "x", 5])
@pytest.mark.parametrize("section", ["MEANWHILE", "WORKER", "RETENTION"])
def test_a_section_is_a_dictionary(section, value):
    """Anything else is refused by name, and the rest of the settings stays readable."""
    given = value if section == "MEANWHILE" else {section: value, "POLL": 2}
    settings, wrong = read(given)
    assert [problem for problem in wrong if section in problem.message and "must be a dictionary" in problem.message]
    assert settings.poll == (1 if section == "MEANWHILE" else 2)


@pytest.mark.parametrize(
    ("value", "suggestion"),
    [
        ({"LEESE": 5}, "LEASE"),
        ({"lease": 5}, "LEASE"),
        ({"GRAZE": 5}, "GRACE"),
        ({"WORKERS": {}}, "WORKER"),
        ({"WORKER": {"thread": 5}}, "threads"),
        ({"WORKER": {"THREADS": 5}}, "threads"),
        ({"WORKER": {"procesess": 5}}, "processes"),
        ({"RETENTION": {"succesful": 5}}, "successful"),
        ({"RETENTION": {"FAILED": 5}}, "failed"),
    ],
)
def test_an_unknown_key_is_answered_with_the_likely_one(value, suggestion):
    """A misspelt key never silently leaves its default in force: the hint names the key that was meant."""
    message, hint = the_problem(value)
    assert "unknown key" in message
    assert hint == f'Did you mean "{suggestion}"?'


@pytest.mark.parametrize(
    ("server", "hint"),
    [
        ({"host": "0.0.0.0", "port": 80}, 'Write "bind": "0.0.0.0:80".'),
        ({"host": "::1"}, 'Write "bind": "[::1]:8000".'),
        ({"port": "9000"}, 'Write "bind": "127.0.0.1:9000".'),
        ({"timeout": 60}, "a request has no timeout here"),
    ],
)
def test_the_words_of_other_servers_are_answered(server, hint):
    """What gunicorn and uvicorn call otherwise, or have and we have not: each such key has the line to write."""
    found = problems({"SERVER": server})
    assert len(found) == len(server)
    for (message, said), key in zip(found, server, strict=True):
        assert message == f'MEANWHILE["SERVER"] has an unknown key {key!r}.'
        assert hint in said
        assert "Did you mean" not in said


@pytest.mark.parametrize("key", ["COLOUR", 5, None, ("a",)])
def test_an_unknown_key_without_a_likely_one_is_answered_with_all(key):
    """If nothing is near, the hint lists every known key."""
    message, hint = the_problem({key: 1})
    assert repr(key) in message
    assert all(known in hint for known in conf._SCHEMA)


def test_every_mistake_is_reported_at_once():
    """Five mistakes are five problems: nobody mends settings one error at a time."""
    assert len(problems({"POLL": -1, "GRACE": "x", "COLOUR": 1, "WORKER": {"threads": -1, "hue": 2}})) == 5


def test_a_wrong_value_leaves_the_default_in_force():
    """What cannot be read does not hide the rest."""
    settings, wrong = read({"POLL": "often", "GRACE": 7})
    assert len(wrong) == 1
    assert (settings.poll, settings.grace) == (1, 7)


@pytest.mark.parametrize("lease", [1, 2, 6, 30, 3600])
def test_a_lease_alone_is_enough(lease):
    """Whoever sets only LEASE gets a beat and a sweep that fit it, and no complaint about keys he never wrote."""
    settings, wrong = read({"LEASE": lease})
    assert not wrong
    assert settings.beat == pytest.approx(lease / 3)
    assert settings.sweep <= lease
    assert settings.margin < lease / 2


@pytest.mark.parametrize(("lease", "beat", "right"), [(30, 15, True), (30, 15.1, False), (2, 1, True), (2, 1.5, False)])
def test_a_lease_outlasts_two_beats(lease, beat, right):
    """One lost beat must not cost a worker its jobs; the hint says which beat to write."""
    found = problems({"LEASE": lease, "BEAT": beat, "SWEEP": 0.5})
    assert bool(found) != right
    for message, hint in found:
        assert "a lease must outlast two beats" in message
        assert f'"BEAT": {lease / 3:g}' in hint


def test_a_sweep_is_no_rarer_than_a_lease():
    """Sweeping less often than leases end only delays recovery, and is refused."""
    message, hint = the_problem({"LEASE": 6, "SWEEP": 7})
    assert '"SWEEP" is 7 s' in message.replace('MEANWHILE["SWEEP"]', '"SWEEP"')
    assert '"SWEEP": 5' in hint


def test_a_worker_has_a_slot():
    """A worker that could run nothing is refused before it idles."""
    message, hint = the_problem({"WORKER": {"threads": 0, "coroutines": 0, "processes": 0}})
    assert "could run nothing" in message
    assert "threads" in hint


def test_whoever_runs_on_the_settings_gets_all_problems_in_one_error():
    """``get_settings`` raises ImproperlyConfigured with every message and every hint, or returns the settings."""
    with override_settings(MEANWHILE={"POLL": -1, "LEESE": 1}), pytest.raises(ImproperlyConfigured) as caught:
        get_settings()
    assert "POLL" in str(caught.value)
    assert 'Did you mean "LEASE"?' in str(caught.value)
    with override_settings(MEANWHILE={"POLL": 2}):
        assert get_settings().poll == 2


def test_override_settings_takes_effect_and_ends():
    """Tests of a project may change MEANWHILE: the next reader sees it, and the one after sees the old one."""
    before = get_settings()
    with override_settings(MEANWHILE={"POLL": 2}):
        assert get_settings().poll == 2
        with override_settings(MEANWHILE={"POLL": 3}):
            assert get_settings().poll == 3
        assert get_settings().poll == 2
    assert get_settings() == before
    assert get_settings() is get_settings()


def test_other_settings_do_not_make_them_read_again():
    """Only MEANWHILE itself makes the settings be read again."""
    before = get_settings()
    with override_settings(USE_TZ=False):
        assert get_settings() is before


def test_settings_are_frozen():
    """Nobody changes the settings of others."""
    with pytest.raises(FrozenInstanceError):
        get_settings().poll = 5  # type: ignore[misc]


def test_the_real_clock_is_monotonic_and_shared_by_all_processes():
    """It is CLOCK_MONOTONIC: what the supervisor writes, its children can compare."""
    import time

    before = time.monotonic()
    now = conf.real_clock().monotonic()
    assert before <= now <= time.monotonic()
