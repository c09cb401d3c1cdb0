"""Help worth reading: what there is, with examples, and what the exit status means."""

import pytest
from django.core.management import call_command

from django_meanwhile.management import overview
from django_meanwhile.management.subcommands import SUBCOMMANDS

NAMES = [subcommand.name for subcommand in SUBCOMMANDS]


def _help(capsys, *args):
    with pytest.raises(SystemExit) as exit_:
        call_command("meanwhile", *args, "--help")
    assert exit_.value.code == 0
    return capsys.readouterr().out


def test_alone_it_says_what_there_is(meanwhile):
    """Without a subcommand: every subcommand by its purpose, the two lines that most need, the way to more."""
    ran = meanwhile()
    assert ran.status == 0
    for name in NAMES:
        assert ran.out.count(f"\n  {name} ") == 1
    for line in ("manage.py meanwhile worker ", "manage.py meanwhile status ", "COMMAND --help", "This project, now"):
        assert line in ran.out


def test_its_help_says_the_same_without_a_look_at_the_database(capsys):
    """``--help`` is text: every subcommand once, and Django's own options."""
    text = _help(capsys)
    for name in NAMES:
        assert text.count(f"\n  {name} ") == 1
    assert "usage: manage.py meanwhile COMMAND [options]" in text
    assert "positional arguments" not in text
    assert "--settings" in text
    assert "This project" not in text


def test_every_subcommand_has_a_group():
    """A new subcommand cannot be forgotten in the overview."""
    assert sorted(name for names in overview.GROUPS.values() for name in names) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_subcommand_explains_itself(capsys, name):
    """Each has a description, examples that can be copied, and the meaning of its exit status, with their line
    breaks kept.
    """
    text = _help(capsys, name)
    assert "\nexamples:\n" in text
    assert f"\n  manage.py meanwhile {name} " in text or f"\n  manage.py meanwhile {name}\n" in text
    assert "\nexit status: 0 " in text
    assert "--verbosity" in text


def test_the_subcommands_are_those_that_were_promised():
    """The list of subcommands is a promise to scripts."""
    assert NAMES == ["worker", "check", "status", "list", "show", "retry", "cancel", "prune"]


def test_an_unknown_subcommand_is_refused_with_the_choice(meanwhile):
    """A slip of the pen names what was given and what there is."""
    ran = meanwhile("wroker")
    assert ran.status == 1
    assert "wroker" in ran.err
    assert "worker" in ran.err


@pytest.mark.django_db
@pytest.mark.parametrize("options", [["-v", "0"], ["--traceback"], ["--settings", "tests.settings"], ["--no-color"]])
def test_options_of_every_command_may_stand_after_the_subcommand(meanwhile, options):
    """Django's own options are taken after the subcommand too, where one is used to write them."""
    assert meanwhile("prune", "--dry-run", "--backend", "default", *options).status == 0
