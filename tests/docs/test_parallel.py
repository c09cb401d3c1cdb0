"""The page on `parallel()` and `TaskGroup`: signatures and figures are the code's, its examples do what they say."""

import inspect
import json

from django_meanwhile import concurrent
from django_meanwhile.concurrent.together import scope

from .pages import code, page
from .site import Site

PAGE = page("reference/parallel")


def _parameters(function) -> str:
    signature = inspect.signature(function)
    bare = [
        parameter.replace(annotation=parameter.empty)
        for parameter in signature.parameters.values()
        if parameter.name != "self"
    ]
    return str(inspect.Signature(bare))


def test_signatures_are_those_of_the_code() -> None:
    """The page has the signatures that the functions have, the twins take the same, each argument has its row."""
    assert f"`parallel{_parameters(concurrent.parallel)}`" in PAGE.text
    assert f"`aparallel{_parameters(concurrent.aparallel)}`" in PAGE.text
    assert _parameters(concurrent.parallel) == _parameters(concurrent.aparallel)
    table = PAGE.table("parallel", "argument")
    assert [code(cell)[0] for cell in table.column("argument")] == list(
        inspect.signature(concurrent.parallel).parameters
    )
    defaults = [str(each.default) for each in inspect.signature(concurrent.parallel).parameters.values()]
    assert [code(cell)[0] for cell in table.column("default")[1:]] == defaults[1:]
    assert f"`TaskGroup{_parameters(concurrent.TaskGroup.__init__)}`" in PAGE.text
    assert f"`create_task{_parameters(concurrent.TaskGroup.create_task)}`" in PAGE.text


def test_figures_are_those_of_the_code() -> None:
    """How long a stopped call is waited for."""
    assert f"at most {scope.STOP_WITHIN:g} s after" in PAGE.text


def test_the_examples_do_what_they_say(site: Site) -> None:
    """The views answer with what the database holds, sync and async; the group counts members."""
    site.use(PAGE)
    found = site.python(
        "import asyncio; from django.contrib.auth.models import Group, User; from django.test import RequestFactory\n"
        "from reports import async_pages, groups, pages\n"
        "import json\n"
        "user = User.objects.create_user('parallel1'); Group.objects.create(name='parallel').user_set.add(user)\n"
        "request = RequestFactory().get('/')\n"
        "print(pages.numbers(request).content.decode())\n"
        "print(asyncio.run(async_pages.numbers(request)).content.decode())\n"
        "print(json.dumps(groups.all_members()))"
    ).stdout.splitlines()
    sync, asynchronous, members = (json.loads(line) for line in found)
    assert sync["users"] == asynchronous["users"] >= 1
    assert "parallel" in sync["groups"]
    assert len(sync["codes"]) == 3
    assert asynchronous["groups"] == len(sync["groups"])
    assert asynchronous["newest"] == "parallel1"
    assert members["parallel"] == 1
