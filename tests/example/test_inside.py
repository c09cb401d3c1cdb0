"""The page "Inside a request": what it says of its three ways is so."""

import json
import re

import pytest

from example.tour.inside import at_once, three_ways
from example.tour.server import Server
from example.tour.told import Told
from example.tour.visitor import Visitor


@pytest.fixture(scope="module")
def made(server: Server):
    """What each way did, by its name."""
    answer = Visitor(server.port).post("/inside/", {"language": "de"}, "application/json")
    return {way["name"]: way for way in json.loads(answer.body)["ways"]}


def test_all_ways_ask_for_the_same(made) -> None:
    """Eight calls each, in the same order; of the queries the same days, whatever the language says of them."""
    names = [call["name"] for call in made["sequential"]["calls"]]
    assert len(names) == 8
    years = {
        name: [re.findall(r"\d{4}", call["said"]) for call in way["calls"] if call["name"].startswith("twins")]
        for name, way in made.items()
    }
    assert years["sequential"] == years["naive"] == years["parallel"]
    assert all(len(found) == 2 for found in years["parallel"])
    assert [call["name"] for call in made["parallel"]["calls"]] == names


def test_only_the_threads_are_concurrent(made) -> None:
    """One after the other is one at a time; in naive threads and in parallel several calls run at once."""
    assert at_once(made["sequential"]["calls"]) == 1
    assert at_once(made["naive"]["calls"]) > 1
    assert at_once(made["parallel"]["calls"]) > 1


def test_naive_threads_lose_the_language_and_ours_keep_it(made) -> None:
    """Every call in a naive thread ran under the site's language, every other one under the request's."""
    assert made["naive"]["lost_language"] == 8
    assert {call["language"] for call in made["naive"]["calls"]} == {"en-gb"}
    assert made["parallel"]["lost_language"] == made["sequential"]["lost_language"] == 0
    assert "Montag" in made["sequential"]["calls"][0]["said"]
    assert [call["said"] for call in made["parallel"]["calls"]] == [c["said"] for c in made["sequential"]["calls"]]


def test_only_naive_threads_leave_connections_behind(made) -> None:
    """The loop and `parallel` leave none; naive threads at most one for each query, as far as nobody collected them."""
    assert made["sequential"]["left"] == made["parallel"]["left"] == 0
    assert 0 <= made["naive"]["left"] <= 4


def test_the_count_is_of_threads_that_have_ended(server: Server) -> None:
    """A connection counts once its thread is gone, and no longer when it is closed."""
    code = (
        "import gc, threading; from django.db import connection; from inside import left\n"
        "gc.disable(); held = []; go = threading.Event(); opened = threading.Event()\n"
        "def job(): connection.ensure_connection(); held.append(connection.connection); opened.set(); go.wait()\n"
        "thread = threading.Thread(target=job); thread.start(); opened.wait(); print('alive', left.count())\n"
        "go.set(); thread.join(); print('ended', left.count())\n"
        "gc.enable(); gc.collect(); print('collected', left.count()); held[0].close()\n"
    )
    assert server.manage("shell", "-c", code).endswith("alive 0\nended 1\ncollected 0\n")


def test_the_page_works_without_a_script(visitor: Visitor) -> None:
    """The page has no result until its button is pressed; then each way has its time, its marks and a lane a call."""
    page = visitor.get("/inside/").text
    assert 'class="lane"' not in page
    page = visitor.post("/inside/", {"language": "fr"}).text
    assert page.count('class="lane"') == 3 * 8
    assert page.count('class="good"') >= 4
    assert "8 of 8 answers lost the language" in page
    assert "lundi" in page


def test_an_unknown_language_is_refused(visitor: Visitor) -> None:
    """A language that the form does not offer is an error beside its field, and nothing is measured."""
    answer = visitor.post("/inside/", {"language": "xx"})
    assert answer.status == 422
    assert "errorlist" in answer.text
    assert 'class="lane"' not in answer.text


def test_the_tour_holds(visitor: Visitor) -> None:
    """`make demo`'s part about this page finds everything as it must be, and says four things."""
    told = Told()
    three_ways(told, visitor)
    assert told.broken == []


def test_the_tour_fails_if_a_connection_is_left(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page whose parallel way lost the language and left a connection makes `make demo` fail, and is named."""
    answer = visitor.post("/inside/", {"language": "de"}, "application/json")
    seen = json.loads(answer.body)
    seen["ways"][2] |= {"left": 1, "lost_language": 3}
    monkeypatch.setattr("example.tour.inside.json.loads", lambda body: seen)
    told = Told()
    three_ways(told, visitor)
    assert told.broken == ["they keep the request's language", "and leave no connection behind"]
