"""Help worth reading: what there is, with examples, and what the exit status means."""

import pytest
from django.core.management import call_command

from django_meanwhile.management.subcommands import SUBCOMMANDS

NAMES = [subcommand.name for subcommand in SUBCOMMANDS]


def _help(capsys, *args):
    with pytest.raises(SystemExit) as exit_:
        call_command("meanwhile", *args, "--help")
    assert exit_.value.code == 0
    return capsys.readouterr().out


def test_alone_it_says_what_there_is(meanwhile):
    """Without a subcommand it prints its help: every subcommand, examples, the way to more."""
    ran = meanwhile()
    assert ran.status == 0
    for name in NAMES:
        assert f"\n    {name} " in ran.out
    assert "manage.py meanwhile worker\n" in ran.out
    assert "examples:" in ran.out
    assert "COMMAND --help" in ran.out


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
    assert NAMES == ["worker", "check", "status", "show", "retry", "cancel", "prune"]


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
