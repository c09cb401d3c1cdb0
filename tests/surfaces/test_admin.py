"""The admin's pages of jobs and workers: everything readable, nothing executable, nothing that reads all of history."""

from __future__ import annotations

import json
import uuid

import pytest
from django.contrib import admin
from django.db import connections
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import escape

from django_meanwhile.admin import JobAdmin, WorkerAdmin, filters, listing
from django_meanwhile.core.states import AttemptKind, JobState
from django_meanwhile.models import Job, Worker

from .rows import HOUR_AND_A_HALF, ago

XSS = "</pre><script>alert('x')</script>\x1b[31m\u202e"
JOBS = "admin:meanwhile_job_changelist"
WORKERS = "admin:meanwhile_worker_changelist"

pytestmark = pytest.mark.django_db(databases=["default"])


def page(client, name, *args, **query):
    """Return the HTML of a page, which must be there."""
    response = client.get(reverse(name, args=args), query)
    assert response.status_code == 200
    return response.content.decode()


def shown(client, job):
    """Return the page of one job."""
    return page(client, "admin:meanwhile_job_change", job.pk)


def listed(client, **query):
    """Return the ids of the jobs in the list."""
    response = client.get(reverse(JOBS), query)
    assert response.status_code == 200, response
    return [job.pk for job in response.context["cl"].result_list]


@pytest.mark.parametrize("state", list(JobState))
def test_a_job_of_every_state_has_a_line_and_a_page(admin_client, rows, state):
    """In the list and on its own page, also with texts that are no JSON."""
    job = rows.job(state)
    damaged = rows.job(state, arguments="{damaged", progress="[1]", result="{", overrides="x", context="")
    html = page(admin_client, JOBS)
    assert html.count(f"meanwhile-{state.name.lower()}") == 2
    for each in (job, damaged):
        html = shown(admin_client, each)
        assert state.name in html
        assert str(each.pk) in html
    assert "{damaged" in html


def test_the_page_shows_everything_about_a_job(admin_client, rows):
    """Arguments indented, progress, result, counters explained, every attempt with its traceback, newest first."""
    worker = rows.worker(host="web7", pid=99)
    job = rows.job(
        JobState.FAILED,
        arguments=json.dumps({"args": [1], "kwargs": {"when": {"$date": "2026-11-22"}}}),
        progress=json.dumps({"n": 40, "total": 100, "message": "importing"}),
        last_worker_id=worker.pk,
        rank=-7,
        epoch=2,
    )
    rows.attempt(job, 1, detail="Traceback\n  line\nValueError: first", worker_id=worker.pk)
    rows.attempt(job, 2, kind=AttemptKind.CRASH, detail="exit status -9", worker_id=worker.pk)
    html = shown(admin_client, job)
    for text in (
        "40 / 100 importing",
        "&quot;$date&quot;: &quot;2026-11-22&quot;",
        "ValueError: first",
        "exit status -9",
        "lasted 5 s",
        "after the third it is quarantined",
        "only the newest may write",
        "shared web7:99",
    ):
        assert text in html, text
    assert html.index("Run 2 · crash") < html.index("Run 1 · failed")
    assert reverse("admin:meanwhile_worker_change", args=[worker.pk]) in html
    assert '<progress value="40.0" max="100.0">' in html


def test_nothing_from_a_row_is_executed_or_reaches_the_page_raw(admin_client, rows):
    """Markup, control characters and bidirectional marks in any text of a row are shown, not obeyed."""
    job = rows.job(
        JobState.FAILED, task=f"t{XSS}", queue=f"q{XSS}"[:64], executor="<b>x</b>", backend="<i>b</i>",
        arguments=json.dumps({"args": [XSS], "kwargs": {}}), result=json.dumps(XSS), overrides=json.dumps({"m": XSS}),
        context=json.dumps({"language": XSS}), progress=json.dumps({"n": 1, "total": 2, "message": XSS}),
    )  # fmt: skip
    rows.attempt(job, 1, detail=f"Traceback\nValueError: {XSS}", exception=f"e{XSS}"[:255])
    worker = rows.worker(host=f"h{XSS}", queues=XSS, kind="<b>k</b>")
    rows.job(
        JobState.RUNNING,
        worker_id=worker.pk,
        task=f"t{XSS}",
        progress=json.dumps({"n": 1, "total": None, "message": XSS}),
    )
    pages = [
        page(admin_client, JOBS),
        page(admin_client, JOBS, q=XSS),
        page(admin_client, JOBS, task=XSS, queue=XSS),
        shown(admin_client, job),
        page(admin_client, WORKERS),
        page(admin_client, "admin:meanwhile_worker_change", worker.pk),
    ]
    for html in pages:
        assert "<script>alert" not in html
        assert "<b>" not in html.replace("<b>e&lt;", "")
        assert "<i>b" not in html
    for html in (pages[0], pages[3], pages[5]):
        assert r"\x1b[31m" in html
        for name in (str(Job(task=f"t{XSS}")).split(" ")[0], str(worker)):
            html = html.replace(escape(name), "")  # noqa: PLW2901 - titles and labels are the admin's own, of str(row)
        assert "\x1b" not in html


def test_a_result_of_a_megabyte_makes_a_page_of_reasonable_size(admin_client, rows):
    """The middle of a very long text is left out, and that is said."""
    html = shown(admin_client, rows.job(JobState.SUCCESSFUL, result=json.dumps("x" * 1_000_000)))
    assert len(html) < 200_000
    assert "characters left out" in html


def test_ten_thousand_attempts_make_a_page_of_reasonable_size(admin_client, rows):
    """The newest attempts are shown."""
    job = rows.job(JobState.FAILED, epoch=120)
    for epoch in range(1, 121):
        rows.attempt(job, epoch)
    html = shown(admin_client, job)
    assert html.count("<summary>") == 50
    assert "Run 120 " in html
    assert "Run 70 " not in html


# --- searching and filtering ------------------------------------------------------------


def test_search_by_id_by_its_beginning_by_task_and_by_queue(admin_client, rows):
    """An id with or without dashes; words in the task's name; a queue's exact name; several words narrow down."""
    mail = rows.job(queue="mail", task="shop.tasks.send")
    other = rows.job(queue="default", task="shop.tasks.charge")
    assert listed(admin_client, q=str(mail.pk)) == [mail.pk]
    assert listed(admin_client, q=mail.pk.hex[:30]) == [
        job.pk for job in (other, mail) if job.pk.hex[:30] == mail.pk.hex[:30]
    ]
    assert listed(admin_client, q="CHARGE") == [other.pk]
    assert listed(admin_client, q="shop send") == [mail.pk]
    assert listed(admin_client, q="mail") == [mail.pk]
    assert listed(admin_client, q="mai") == []
    assert listed(admin_client, q="  ") == [other.pk, mail.pk]


def test_words_and_names_are_looked_for_among_the_newest_jobs_only(admin_client, rows, monkeypatch):
    """What no index serves is bounded by the window, unless a state narrows it down; ids, and states alone, reach
    everything.
    """
    monkeypatch.setattr(listing.newest, "__defaults__", (3,))
    old = rows.job(JobState.FAILED, task="shop.tasks.old", queue="mail")
    new = [rows.job(task="shop.tasks.new") for _ in range(3)]
    assert listed(admin_client, q="old") == []
    assert listed(admin_client, queue="mail") == []
    assert listed(admin_client, q="new") == [job.pk for job in reversed(new)]
    assert listed(admin_client, q=str(old.pk)) == [old.pk]
    assert listed(admin_client, state="failed") == [old.pk]
    assert listed(admin_client, state="failed", queue="mail") == [old.pk]
    assert listed(admin_client, state="failed", q="old") == [old.pk]
    assert len(listed(admin_client)) == 4


def test_filters_by_state_queue_and_task(admin_client, rows):
    """Each alone, and together; jobs that have ended by their end, the last one first."""
    first = rows.job(JobState.FAILED, finished_at=ago(20), queue="mail", task="a.b")
    second = rows.job(JobState.FAILED, finished_at=ago(30))
    ready = rows.job(queue="mail")
    assert listed(admin_client, state="failed") == [first.pk, second.pk]
    assert listed(admin_client, queue="mail") == [ready.pk, first.pk]
    assert listed(admin_client, task="a.b") == [first.pk]
    assert listed(admin_client, state="ready", queue="mail") == [ready.pk]
    for state in JobState:
        assert len(listed(admin_client, state=state.name.lower())) == {JobState.FAILED: 2, JobState.READY: 1}.get(
            state, 0
        )
    assert len(listed(admin_client, state="nonsense")) == 3


def test_the_choices_of_filters_cost_no_query_over_jobs(admin_client, rows, settings, monkeypatch):
    """Queues come from the settings, tasks from the code: a list page runs no DISTINCT, whatever is in the table."""
    monkeypatch.setattr(filters, "MOST_TASKS", 10_000)  # other tests of this process have made some, too
    settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["default", "mail"]}}
    rows.job(queue="default")
    with CaptureQueriesContext(connections[rows.alias]) as captured:
        html = page(admin_client, JOBS)
    assert "?queue=mail" in html
    assert "?task=tests.project.tasks.nothing" in html
    assert not [
        query["sql"] for query in captured if "DISTINCT" in query["sql"].upper() and "meanwhile" in query["sql"]
    ]


# --- a list that stays fast ------------------------------------------------------------------


def _queries(client, alias, name, **query):
    with CaptureQueriesContext(connections[alias]) as captured:
        page(client, name, **query)
    return [query["sql"] for query in captured if "meanwhile_" in query["sql"]]


@pytest.mark.parametrize("name", [JOBS, WORKERS])
def test_the_number_of_queries_does_not_grow_with_the_rows(admin_client, rows, name):
    """One count and one page, for two rows as for forty."""
    counts = []
    for number in (2, 40):
        for _ in range(number):
            rows.job(JobState.RUNNING, worker_id=rows.worker().pk)
        counts.append(len(_queries(admin_client, rows.alias, name)))
    assert counts == [2, 2]


def test_the_list_counts_to_its_bound_and_leaves_out_what_may_be_long(admin_client, rows, monkeypatch):
    """The count has a LIMIT, and the arguments and results of the jobs stay in the database."""
    monkeypatch.setattr(listing, "COUNTED", 5)
    for _ in range(8):
        rows.job()
    count, jobs = _queries(admin_client, rows.alias, JOBS)
    assert "COUNT(*)" in count
    assert "LIMIT 5" in count
    for column in ("arguments", "result", "context", "overrides"):
        assert f'"{column}"' not in jobs
    assert admin_client.get(reverse(JOBS)).context["cl"].result_count == 5


@pytest.mark.parametrize("query", [{}, {"state": "failed"}, {"state": "successful"}, {"state": "running"}])
def test_the_list_reads_an_index(admin_client, rows, query):
    """Each plan walks an index of the table, in its order, and sorts no history."""
    for _ in range(300):
        rows.job(JobState.SUCCESSFUL)
    rows.job(JobState.FAILED)
    with connections[rows.alias].cursor() as cursor:
        cursor.execute("ANALYZE meanwhile_job")
    _, jobs = _queries(admin_client, rows.alias, JOBS, **query)
    with connections[rows.alias].cursor() as cursor:
        if connections[rows.alias].vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")  # three hundred rows are read faster than an index
            cursor.execute(f"EXPLAIN {jobs}")
        else:
            cursor.execute(f"EXPLAIN QUERY PLAN {jobs}")
        plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
    assert "Seq Scan" not in plan, plan
    assert "SCAN meanwhile_job\n" not in f"{plan}\n", plan
    assert "USE TEMP B-TREE FOR ORDER BY" not in plan or query.get("state") == "running", plan


# --- read-only -------------------------------------------------------------------------------


def test_nothing_can_be_added_changed_or_deleted(admin_client, rows):
    """Not even by a superuser who makes up the request: a row written around the store would break its fence."""
    job, worker = rows.job(), rows.worker()
    for model, row in (("job", job), ("worker", worker)):
        for url in (reverse(f"admin:meanwhile_{model}_add"), reverse(f"admin:meanwhile_{model}_delete", args=[row.pk])):
            assert admin_client.get(url).status_code == 403
            assert admin_client.post(url, {"post": "yes"}).status_code == 403
        change = reverse(f"admin:meanwhile_{model}_change", args=[row.pk])
        assert admin_client.post(change, {"state": 4, "_save": "Save"}).status_code == 403
        assert "_save" not in admin_client.get(change).content.decode()
    before = job.__dict__.copy()
    job.refresh_from_db()
    assert {key: job.__dict__[key] for key in before if key != "_state"} == {
        key: before[key] for key in before if key != "_state"
    }
    assert set(JobAdmin(Job, admin.site).get_actions(_request(admin_client))) == {"retry_jobs", "cancel_jobs"}
    assert not WorkerAdmin(Worker, admin.site).get_actions(_request(admin_client))
    with pytest.raises(NotImplementedError):
        JobAdmin(Job, admin.site).save_model(None, job, None, True)


def _request(client):
    from django.contrib.auth.models import User

    request = RequestFactory().get("/")
    request.user = User.objects.get(pk=client.session["_auth_user_id"])
    return request


@pytest.mark.parametrize("junk", ["nonsense", "0" * 31, "00000000-0000-4000-8000-000000000000", "a/b", "%00"])
def test_a_page_that_is_not_there_is_no_error(admin_client, backend, junk):
    """An id that is none, or that no row has, leads back, as everywhere in the admin."""
    for model in ("job", "worker"):
        assert admin_client.get(reverse(f"admin:meanwhile_{model}_change", args=[junk])).status_code == 302


def test_the_history_page_works(admin_client, rows):
    """Who retried or cancelled a job is found where the admin keeps such things."""
    job = rows.job(JobState.FAILED)
    admin_client.post(reverse("admin:meanwhile_job_retry", args=[job.pk]))
    assert "Retried." in page(admin_client, "admin:meanwhile_job_history", job.pk)


# --- workers -----------------------------------------------------------------------------


def test_workers_are_listed_with_their_life_and_what_they_run(admin_client, rows):
    """Living, silent and dead; how many jobs each runs; its page lists them with links."""
    living = rows.worker(host="alive1", queues="mail")
    rows.worker(host="silent1", lease=-HOUR_AND_A_HALF)
    rows.worker(host="dead1", lease=-60, dead_at=ago(HOUR_AND_A_HALF))
    jobs = [rows.job(JobState.RUNNING, worker_id=living.pk, task=f"a.b{n}") for n in range(2)]
    rows.job(JobState.SUCCESSFUL, last_worker_id=living.pk, task="a.ended")
    html = page(admin_client, WORKERS)
    for text in (
        "alive1:4711",
        "lives, lease for another",
        "silent: its lease ran out 1 h 30 min ago",
        "dead for 1 h 30 min",
        '<td class="field-busy">2</td>',
    ):
        assert text in html, text
    html = page(admin_client, "admin:meanwhile_worker_change", living.pk)
    for job in jobs:
        assert reverse("admin:meanwhile_job_change", args=[job.pk]) in html
        assert job.task in html
    assert "a.ended" not in html
    assert "alive1" in page(admin_client, WORKERS, life="living")
    assert "alive1" not in page(admin_client, WORKERS, life="dead")


def test_a_job_whose_worker_is_gone_shows_the_id(admin_client, rows):
    """No link to a page that is not there."""
    worker_id = uuid.uuid4()
    html = shown(admin_client, rows.job(JobState.RUNNING, worker_id=worker_id))
    assert str(worker_id) in html
    assert reverse("admin:meanwhile_worker_change", args=[worker_id]) not in html


# --- several databases ------------------------------------------------------------------------


@pytest.mark.django_db(databases=["default", "other"])
def test_jobs_of_another_database_are_chosen_by_a_filter_and_found_by_their_id(admin_client, settings):
    """With backends on two databases the list is about one of them, and a page finds its row in either."""
    from .conftest import BACKEND
    from .rows import Rows

    settings.TASKS = {"default": {"BACKEND": BACKEND}, "away": {"BACKEND": BACKEND, "OPTIONS": {"DATABASE": "other"}}}
    here, away = Rows("default").job(), Rows("other").job(JobState.FAILED, backend="away")
    assert listed(admin_client) == [here.pk]
    assert listed(admin_client, database="other") == [away.pk]
    assert listed(admin_client, database="nonsense") == [here.pk]
    assert "?database=other" in page(admin_client, JOBS)
    assert str(away.pk) in shown(admin_client, away)
    admin_client.post(reverse("admin:meanwhile_job_retry", args=[away.pk]))
    assert Rows("other").state_of(away) is JobState.READY
    data = {"action": "cancel_jobs", "_selected_action": [str(away.pk)], "index": 0}
    admin_client.post(reverse(JOBS) + "?database=other", data)
    assert Rows("other").state_of(away) is JobState.CANCELLED
