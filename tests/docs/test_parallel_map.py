"""The pages on `parallel_map()` and `create_task()`: signatures and figures are the code's, examples hold."""

import inspect
import json

from django_meanwhile import concurrent, testing
from django_meanwhile.concurrent.maps import lanes, processes
from django_meanwhile.conf import ConcurrentSettings

from .pages import code, page
from .site import Site

MAP, TASK = page("reference/parallel-map"), page("reference/create-task")


def _parameters(function) -> str:
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
    return str(inspect.Signature(bare)).replace("'", '"')


def test_signatures_are_those_of_the_code() -> None:
    """Each page has the signature that the function has; the twin takes the same; each argument has its row."""
    assert f"`parallel_map{_parameters(concurrent.parallel_map)}`" in MAP.text
    assert _parameters(concurrent.parallel_map) == _parameters(concurrent.aparallel_map)
    told = [code(cell)[0] for cell in MAP.table("parallel_map()", "argument").column("argument")]
    assert told == list(inspect.signature(concurrent.parallel_map).parameters)
    assert f"`create_task{_parameters(concurrent.create_task)}`" in TASK.text
    assert f"`run_background_tasks{_parameters(testing.run_background_tasks)}`" in TASK.text


def test_figures_are_those_of_the_code() -> None:
    """The seconds and numbers of the pages are the code's."""
    assert f"{lanes.DEFAULT_COROUTINES} coroutines" in MAP.text
    assert processes.STOP_WITHIN == 0.5
    assert "half a second" in MAP.text
    assert f"(default {ConcurrentSettings().drain:g})" in TASK.text


def test_the_maps_examples_do_what_they_say(site: Site) -> None:
    """The views of the page answer with what the database and the processes hold."""
    site.use(MAP)
    found = site.python(
        "import asyncio, json; from django.contrib.auth.models import User; from django.test import RequestFactory\n"
        "from reports import aviews, prices, primes\n"
        "User.objects.create_user('map1'); User.objects.create_user('map2')\n"
        "are_all = len(prices.last_logins()) == User.objects.count()\n"
        "print(json.dumps([are_all, list(primes.table([10, 20]).values())]))\n"
        "print(asyncio.run(aviews.primes(RequestFactory().get('/'))).content.decode())"
    ).stdout.splitlines()
    assert json.loads(found[0]) == [True, [4, 8]]
    assert json.loads(found[1]) == {"counts": [25, 46, 62]}


def test_the_coroutines_examples_do_what_they_say(site: Site) -> None:
    """The view answers at once, its coroutine is drained, its failure is noted by the receiver of the page."""
    site.use(TASK)
    found = site.python(
        "import asyncio, json; from django.test import RequestFactory; from reports import async_views, failures\n"
        "from django_meanwhile.concurrent import create_task\n"
        "async def fail(): raise ValueError('no luck')\n"
        "async def main():\n"
        "    response = await async_views.start(RequestFactory().get('/'))\n"
        "    create_task(fail(), name='mail')\n"
        "    return response.status_code\n"
        "print(json.dumps([asyncio.run(main()), failures.failed]))"
    ).stdout
    assert json.loads(found) == [202, [["mail", "no luck"]]]


def test_the_pages_test_passes(site: Site) -> None:
    """The test case of the page is one that passes under Django's runner."""
    if site.vendor == "sqlite":
        site.use(TASK)
        done = site.manage("test", "--noinput", "reports.test_background", check=False)
        assert done.returncode == 0, done.stderr
        assert "Ran 1 test" in done.stderr
