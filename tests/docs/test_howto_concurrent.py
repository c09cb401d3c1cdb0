"""The how-to pages on concurrency inside a request: what each says of its code is so, on both databases."""

import json
import re
from typing import Any

import pytest

import django_meanwhile.concurrent as api

from .pages import DOCS, Page, code, page
from .site import Site, make_site

CHOICE = page("how-to/inside-a-request")
QUERIES, APIS, THREADS, CPU = map(
    page, ("how-to/parallel-queries", "how-to/several-apis", "how-to/threads-in-a-view", "how-to/cpu-in-a-request")
)
BACKGROUND, GROUP, LOCK, TESTING = map(
    page,
    ("how-to/background-coroutines", "how-to/task-group", "how-to/one-at-a-time", "how-to/testing-concurrent-code"),
)
TRANSACTIONS, BUDGET, LEAKS = map(
    page, ("how-to/transactions-and-threads", "how-to/connection-budget", "how-to/finding-leaks")
)
ALL = [CHOICE, QUERIES, APIS, THREADS, CPU, BACKGROUND, GROUP, LOCK, TESTING, TRANSACTIONS, BUDGET, LEAKS]

PEOPLE = """
from django.contrib.auth.models import Group, User
User.objects.all().delete(); Group.objects.all().delete()
ada, bob = (User.objects.create(username=name, is_active=name != "bob") for name in ("ada", "bob"))
staff = Group.objects.create(name="staff"); ada.groups.add(staff)
from django.test import RequestFactory
request = RequestFactory().get("/")
"""


def told(site: Site, code: str) -> list[Any]:
    """Run code in the site, with two users and a group there; return what its ``say()`` was given."""
    say = "import json\ndef say(*values): print('said', json.dumps(values))\n"
    printed = site.python(f"{say}{PEOPLE}\n{code}").stdout
    return [json.loads(line.removeprefix("said ")) for line in printed.splitlines() if line.startswith("said ")]


# --- which tool -----------------------------------------------------------------------------------


def test_every_page_says_when_not_to_use_it() -> None:
    """A page about a tool begins with what it is not for; the page that chooses names all of them."""
    for each in ALL[1:]:
        first = each.text.split("\n\n")[1]
        assert first.startswith("Not "), each.name
    named = set(re.findall(r"`(\w+)[`(]", CHOICE.text))
    classes = {name for name in api.__all__ if isinstance(getattr(api, name), type)}
    tools = set(api.__all__) - {name for name in classes if issubclass(getattr(api, name), Exception)}
    assert tools - named <= {"aparallel_map", "default_executor", "background_task_failed"}


def test_the_article_has_a_page_for_each_row() -> None:
    """The table repeats the article's methods, and each leads to the page that says what to write."""
    rows = CHOICE.table("The rows of a popular article", "method").rows
    assert [code(row[0])[0] for row in rows] == [
        "threading.Thread",
        "asyncio.create_task",
        "concurrent.futures.ThreadPoolExecutor",
    ]
    for row in rows:
        assert re.search(r"\]\([\w-]+\.md\)", row[2]), row


def test_the_index_has_every_page() -> None:
    """Every page stands in the index of recipes, under one heading."""
    index = page("how-to/index").text
    part = index.partition("## Inside a request")[2].partition("\n## ")[0]
    assert all(f"({each.path.name})" in part for each in ALL)


# --- several queries ------------------------------------------------------------------------------


def test_a_page_with_several_queries(site: Site) -> None:
    """The dashboard has each answer in its place, the prefetch included; so has the async one."""
    site.use(QUERIES)
    found = told(
        site,
        "import asyncio; from reports import adashboard, dashboard, tolerant\n"
        "say(json.loads(dashboard.dashboard(request).content), tolerant.numbers())\n"
        "say(json.loads(asyncio.run(adashboard.adashboard(request)).content))",
    )
    assert found[0] == [{"users": 2, "active": 1, "newest": ["bob", "ada"], "groups": {"staff": 0}}, [2, 1]]
    assert found[1] == [{"users": 2, "groups": 1, "first": "ada"}]


def test_a_querysets_result_asks_nothing_more(site: Site) -> None:
    """Who uses what came back, prefetched rows included, sends no query: it was all fetched in the threads."""
    site.use(QUERIES)
    found = told(
        site,
        "from django.db import connection; from django.test.utils import CaptureQueriesContext as Capture\n"
        "from django_meanwhile.concurrent import parallel\n"
        "groups, = parallel(Group.objects.prefetch_related('permissions'))\n"
        "with Capture(connection) as queries: names = {g.name: len(g.permissions.all()) for g in groups}\n"
        "say(len(queries), names)",
    )
    assert found == [[0, {"staff": 0}]]


def test_errors_come_as_a_group(site: Site) -> None:
    """One error is an ExceptionGroup, too; with return_exceptions it stands in its place; a timeout is TimeoutError."""
    site.use(QUERIES)
    found = told(
        site,
        "import threading; from django_meanwhile.concurrent import parallel\n"
        "try: parallel(lambda: 1 / 0, User.objects.count)\n"
        "except ExceptionGroup as group: say([type(error).__name__ for error in group.exceptions])\n"
        "say([type(each).__name__ for each in parallel(lambda: 1 / 0, User.objects.count, return_exceptions=True)])\n"
        "gate = threading.Event()\n"
        "try: parallel(lambda: gate.wait(30), timeout=0.1)\n"
        "except TimeoutError as error: say('TimeoutError')\n"
        "finally: gate.set()",
    )
    assert found == [[["ZeroDivisionError"]], [["ZeroDivisionError", "int"]], ["TimeoutError"]]


def test_what_is_missing_is_a_404(site: Site) -> None:
    """The page's view answers 404 for a user that is not there, where the bare exception in a group is a 500."""
    site.use(QUERIES)
    site.write(
        "reports/missing_urls.py",
        "from django.http import Http404\nfrom django.urls import path\n"
        "from . import profile\n\n\ndef bare(request):\n"
        "    from django_meanwhile.concurrent import parallel\n\n    def missing():\n        raise Http404\n\n"
        "    parallel(missing)\n\n\n"
        "urlpatterns = [path('profile/<int:pk>/', profile.profile), path('bare/', bare)]\n",
    )
    found = told(
        site,
        "from django.test import Client; from django.test.utils import override_settings\n"
        "client = Client(raise_request_exception=False)\n"
        "with override_settings(ROOT_URLCONF='reports.missing_urls', ALLOWED_HOSTS=['testserver'], DEBUG=False):\n"
        "    say(client.get(f'/profile/{ada.pk}/').json())\n"
        "    say(client.get('/profile/0/').status_code, client.get('/bare/').status_code)",
    )
    assert found == [[{"user": "ada", "groups": ["staff"]}], [404, 500]]


def test_a_sync_call_in_an_async_view_is_refused(site: Site) -> None:
    """parallel, TaskGroup and parallel_map raise SynchronousOnlyOperation, as the pages say."""
    found = told(
        site,
        "import asyncio; from django.core.exceptions import SynchronousOnlyOperation\n"
        "from django_meanwhile.concurrent import TaskGroup, parallel, parallel_map\n"
        "async def view():\n"
        "    for wait in lambda: parallel(int), TaskGroup().__enter__, lambda: list(parallel_map(int, [1])):\n"
        "        try: wait()\n"
        "        except SynchronousOnlyOperation as error: say(str(error).partition(' Write: ')[2])\n"
        "asyncio.run(view())",
    )
    assert found == [
        ["await aparallel(...)"],
        ["async with asyncio.TaskGroup(), or await aparallel(...)"],
        ["async for ... in aparallel_map(...)"],
    ]


def test_a_snapshot_is_one_state_or_none(site: Site) -> None:
    """On PostgreSQL a row that appears between two calls is seen by neither; on SQLite the page's error is raised."""
    site.use(QUERIES)
    between = (
        "import threading; from django_meanwhile.concurrent import parallel; from django.db import connection\n"
        "counted = threading.Event(); added = threading.Event()\n"
        "def first():\n"
        "    number = User.objects.count(); counted.set(); added.wait(30); return number\n"
        "def second():\n"
        "    added.wait(30); return User.objects.count()\n"
        "def add():\n"
        "    counted.wait(30); User.objects.create(username='eve'); added.set(); connection.close()\n"
        "adding = threading.Thread(target=add); adding.start()\n"
        "say(parallel(first, second, snapshot=True)); adding.join(); say(User.objects.count())"
    )
    refused = (
        "from reports.balance import balance\n"
        "from django_meanwhile.concurrent import SnapshotUnavailable\n"
        "try: say(balance())\n"
        "except SnapshotUnavailable as error: say(type(error).__name__)"
    )
    if site.vendor == "postgresql":
        assert told(site, refused) == [[[1, 1, 2]]]
        assert told(site, between) == [[[2, 2]], [3]]
    else:
        assert told(site, refused) == [["SnapshotUnavailable"]]


# --- several servers, threads, groups -------------------------------------------------------------


def test_several_servers(site: Site) -> None:
    """The page's function has the answers of those that answered; coroutines and a query mix in the async one."""
    site.use(APIS)
    found = told(
        site,
        "import asyncio, http.server, threading\n"
        "class Server(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200 if 'good' in self.path else 500); self.end_headers()\n"
        "        self.wfile.write(b'{\"rate\": 2}')\n"
        "    def log_message(self, *args): pass\n"
        "server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Server)\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()\n"
        "from reports import rates, weather\n"
        "base = f'http://127.0.0.1:{server.server_port}'\n"
        "say(sorted(rates.rates([base + '/good/1', base + '/bad', base + '/good/2']).values(), key=str))\n"
        "say(*asyncio.run(weather.overview(['a', 'b'])))\n"
        "server.shutdown(); server.server_close()",
    )
    assert found[0] == [[{"rate": 2}, {"rate": 2}]]
    assert found[1] == [[{"station": "a", "degrees": 7}, {"station": "b", "degrees": 7}], 2]


def test_a_timeout_of_several_servers_is_caught(site: Site) -> None:
    """Also with return_exceptions=True it is raised, and what was ready is gone: the page's function shows nothing."""
    site.use(APIS)
    found = told(
        site,
        "import threading; from reports import rates; from django_meanwhile.concurrent import parallel\n"
        "gate = threading.Event(); rates.fetch = lambda url: url == 'quick' or gate.wait(30)\n"
        "rates.parallel = lambda *calls, timeout, **terms: parallel(*calls, timeout=0.1, **terms)\n"
        "say(rates.rates(['quick'])); say(rates.rates(['quick', 'slow'])); gate.set()",
    )
    assert found == [[{"quick": True}], [{}]]


def test_one_import_is_all_that_changes(site: Site) -> None:
    """The page's module works with either import; with ours the thread has the caller's language and keeps nothing."""
    site.use(THREADS)
    assert told(site, "from reports import pool, shared; say(pool.numbers(), shared.count_users())") == [[[2, 1], 2]]
    text = THREADS.files()["reports/pool.py"]
    line = next(line for line in text.splitlines() if "# was:" in line)
    site.write("reports/pool_before.py", text.replace(line, line.partition("# was: ")[2]))
    assert told(site, "from reports import pool_before; say(pool_before.numbers())") == [[[2, 1]]]
    language = (
        "import concurrent.futures; from django.utils import translation\n"
        "from django_meanwhile.concurrent import ThreadPoolExecutor\n"
        "with translation.override('de'):\n"
        "    for kind in concurrent.futures.ThreadPoolExecutor, ThreadPoolExecutor:\n"
        "        with kind(1) as executor: say(executor.submit(translation.get_language).result())"
    )
    assert told(site, language) == [["en-us"], ["de"]]


def test_a_group_of_calls(site: Site) -> None:
    """Members are found; an error comes out of the block, where except* catches it, and nothing is left running."""
    site.use(GROUP)
    found = told(
        site,
        "from reports import careful, crawl\n"
        "say(crawl.members_of_all(), len(careful.both('ada', 'bob')), careful.both('ada', 'nobody'))",
    )
    assert found == [[{"staff": ["ada"]}, 2, []]]


# --- computing, coroutines, locks -----------------------------------------------------------------


@pytest.mark.slow
def test_computing_in_processes(site: Site) -> None:
    """The table is computed, and by other processes; the export has a line for each user, in order."""
    site.use(CPU)
    site.write("reports/whose.py", "import os\n\n\ndef process(item):\n    return os.getpid()\n")
    found = told(
        site,
        "import io, os; from reports import computing, export, whose\n"
        "from django_meanwhile.concurrent import parallel_map\n"
        "say(computing.table([10, 100, 1000]))\n"
        "say(os.getpid() in set(parallel_map(whose.process, range(4), executor='process')))\n"
        "file = io.StringIO(); export.export(file); say(file.getvalue())",
    )
    assert found[0] == [[4, 25, 168]]
    assert found[1] == [False]
    assert [line.split(";")[1] for line in found[2][0].splitlines()] == ["ada", "bob"]


def test_a_coroutine_outlives_its_response(site: Site) -> None:
    """On a lasting loop the view answers first and the cache is warm later; a failure is heard of; under WSGI: no."""
    site.use(BACKGROUND)
    found = told(
        site,
        "import asyncio; from asgiref.sync import async_to_sync; from django.core.cache import cache\n"
        "from reports import alarm, background; from django_meanwhile.concurrent import NoLastingLoop, create_task\n"
        "async def fails(): raise ValueError('no')\n"
        "async def server():\n"
        "    response = await background.start(request)\n"
        "    say(response.status_code, cache.get('front-page'))\n"
        "    while cache.get('front-page') is None: await asyncio.sleep(0.01)\n"
        "    task = create_task(fails(), name='fails')\n"
        "    await asyncio.wait([task])\n"
        "    say(cache.get('front-page'), [(name, str(error)) for name, error in alarm.failures])\n"
        "asyncio.run(server())\n"
        "try: async_to_sync(background.start)(request)\n"
        "except NoLastingLoop as error: say('@task' in str(error))",
    )
    assert found == [[202, None], ["warm", [["fails", "no"]]], [True]]


def test_the_durable_twin_runs(site: Site) -> None:
    """The page's task runs on a worker's event loop, and its result is there."""
    site.use(BACKGROUND)
    site.sql("DELETE FROM meanwhile_job")
    site.python("from reports.tasks import tell_partner; tell_partner.enqueue(7)")
    assert site.manage("meanwhile", "worker", "--drain").returncode == 0
    assert site.states() == {"SUCCESSFUL": 1}, site.failures()


def test_a_lock_around_a_file(site: Site) -> None:
    """Four threads that append at once lose no line; one that waits in vain gets LockTimeout; the async form works."""
    site.use(LOCK)
    path = site.path / "ledger.txt"
    path.unlink(missing_ok=True)
    found = told(
        site,
        "import asyncio; from functools import partial; from reports import ledger, partner\n"
        "from django_meanwhile.concurrent import Lock, LockTimeout, parallel\n"
        f"parallel(*(partial(ledger.append, {str(path)!r}, n) for n in range(4)))\n"
        "say(asyncio.run(partner.ask_partner('why')))\n"
        "def try_it():\n"
        "    try:\n"
        "        with Lock('ledger', timeout=0.1): return 'held'\n"
        "    except LockTimeout: return 'LockTimeout'\n"
        "with Lock('ledger'): say(*parallel(try_it))",
    )
    assert found == [["the answer to why"], ["LockTimeout"]]
    assert [line.partition(":")[0] for line in path.read_text().splitlines()] == ["1", "2", "3", "4"]


# --- transactions, tests, connections, leaks ------------------------------------------------------


def test_the_ways_out_of_a_transaction(site: Site) -> None:
    """Inside atomic() it is refused, and the message names both ways out; each of the page's ways works."""
    site.use(TRANSACTIONS)
    found = told(
        site,
        "from reports import inside, moved, reading, regardless\n"
        "User.objects.filter(username='ada').delete()\n"
        "message = inside.refused(); say('atomic' in message and 'outside_transaction=True' in message)\n"
        "User.objects.filter(username='ada').delete()\n"
        "say(moved.sign_up('eve').username, moved.sign_up('eve'))\n"
        "say(regardless.rename(bob, 'Robert')); say(json.loads(reading.numbers(request).content))",
    )
    assert found == [[True], ["eve", None], [[2, 1]], [{"users": 2, "groups": 1}]]


def test_a_reading_view_under_atomic_requests(site: Site) -> None:
    """With ATOMIC_REQUESTS a view is refused, unless it is decorated as the page's are; an async one in any case."""
    site.use(TRANSACTIONS)
    site.write(
        "reports/atomic_urls.py",
        "from django.contrib.auth.models import User\nfrom django.urls import path\n"
        "from . import classes, reading\n\n\nasync def bare(request):\n    pass\n\n\ndef refused(request):\n"
        "    from django_meanwhile.concurrent import parallel\n    parallel(User.objects.count)\n\n\n"
        "urlpatterns = [path('reads/', reading.numbers), path('refused/', refused), path('bare/', bare),\n"
        "    path('class/', classes.Numbers.as_view())]\n",
    )
    found = told(
        site,
        "from django.db import connection; from django.test import Client\n"
        "from django.test.utils import override_settings\n"
        "from django_meanwhile.concurrent import InsideTransaction\n"
        "connection.settings_dict['ATOMIC_REQUESTS'] = True\n"
        "with override_settings(ROOT_URLCONF='reports.atomic_urls', ALLOWED_HOSTS=['testserver']):\n"
        "    say(Client().get('/reads/').json())\n"
        "    try: Client().get('/refused/')\n"
        "    except InsideTransaction as error: say('non_atomic_requests' in str(error))\n"
        "    say(Client().get('/class/').json())\n"
        "    try: Client().get('/bare/')\n"
        "    except RuntimeError as error: say(str(error).rstrip('.'))",
    )
    assert found[:3] == [[{"users": 2, "groups": 1}], [True], [{"users": 2, "groups": 1}]]
    assert found[3:] == [["You cannot use ATOMIC_REQUESTS with async views"]]


def test_queries_in_threads_are_not_the_tests(site: Site) -> None:
    """What looks at the caller's connection sees none of them: neither CaptureQueriesContext nor execute_wrapper()."""
    found = told(
        site,
        "from django.db import connection; from django.test.utils import CaptureQueriesContext as Capture\n"
        "from django_meanwhile.concurrent import parallel\n"
        "seen = []\n"
        "def wrapper(execute, *args):\n"
        "    seen.append(args[0]); return execute(*args)\n"
        "with Capture(connection) as queries, connection.execute_wrapper(wrapper):\n"
        "    numbers = parallel(User.objects.count, User.objects.count)\n"
        "say(numbers, len(queries), seen)",
    )
    assert found == [[[2, 2], 0, []]]


@pytest.mark.slow
def test_the_examples_of_tests_pass(bare_project: Any) -> None:
    """Django's runner runs every test of the page: inline in a TestCase, a real race in a TransactionTestCase."""
    if bare_project.vendor == "sqlite":
        bare_project.database["TEST"] = {"NAME": str(bare_project.path / "test.sqlite3")}
    site = make_site(bare_project)
    (site.path / "reports/tests.py").unlink()
    site.use(TESTING)
    done = site.manage("test", "--noinput", "reports", check=False, within=240)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = sum(text.count("    def test_") for text in TESTING.files().values())
    assert f"Ran {shown} tests" in done.stderr


def test_the_budget_holds(site: Site) -> None:
    """With the page's settings no more than four calls have a connection at once, and all eight are answered."""
    site.use(BUDGET)
    found = told(
        site,
        "import threading; from django.db import connection; from django_meanwhile.concurrent import parallel\n"
        "from django_meanwhile.conf import get_settings\n"
        "lock = threading.Lock(); now = most = 0\n"
        "def call():\n"
        "    global now, most\n"
        "    User.objects.count()\n"
        "    with lock: now += 1; most = max(most, now)\n"
        "    User.objects.count()\n"
        "    with lock: now -= 1\n"
        "    return User.objects.count()\n"
        "say(parallel(*[call] * 8), most <= get_settings().concurrent.connections == 4)",
    )
    assert found == [[[2] * 8, True]]


def test_a_leak_is_named(site: Site) -> None:
    """The page's thread is told in the log with the words of the page and the line that connected; ours are not."""
    site.use(LEAKS)
    for mode in ("warn", "repair"):
        site.write("mysite/settings.py", f'MEANWHILE = {{"GUARD": "{mode}"}}')
        done = site.python(
            "from reports.leaky import start; start().join()\n"
            "from django.contrib.auth.models import User; from django_meanwhile.concurrent import parallel\n"
            "parallel(User.objects.count)"
        )
        said = done.stderr + done.stdout
        block = next(each.text for each in LEAKS.blocks() if each.language == "text")
        for line in block.splitlines():
            assert line in said, said
        assert said.count("ended with an open connection") == 1


def test_the_pages_link_to_each_other() -> None:
    """Each page is reached from the page that chooses, so that nobody has to know its name."""
    reached = {target.partition("#")[0] for _, target in CHOICE.links()}
    todo = [Page(DOCS / "how-to" / name) for name in reached if name.endswith(".md") and "/" not in name]
    reached |= {target.partition("#")[0] for each in todo for _, target in each.links()}
    assert {each.path.name for each in ALL[1:]} <= reached | {"testing-concurrent-code.md"}
