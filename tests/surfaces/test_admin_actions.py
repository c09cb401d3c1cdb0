"""Retry and cancel in the admin: what they change, who may, what they say."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

from django_meanwhile.admin import jobs as job_pages
from django_meanwhile.core.states import LIVE, TERMINAL, JobState

JOBS = "admin:meanwhile_job_changelist"

pytestmark = pytest.mark.django_db(databases=["default"])


def act(client, action, jobs, **more):
    """Choose an action for jobs in the list; return the messages."""
    data = {"action": action, "_selected_action": [str(job.pk) for job in jobs], "index": 0, **more}
    response = client.post(reverse(JOBS), data)
    assert response.status_code == 302, response.content
    return [str(message) for message in get_messages(response.wsgi_request)]


def staff(*codenames):
    """Log in somebody with these permissions."""
    user = User.objects.create_user("staff", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def test_retry_of_many_says_how_many_and_why_not_the_others(admin_client, rows):
    """Those that have ended are READY again; the message counts them, names the rule, and the states that were
    chosen.
    """
    jobs = {state: rows.job(state) for state in JobState}
    messages = act(admin_client, "retry_jobs", jobs.values())
    assert messages[0] == "4 jobs: ready to run again."
    assert messages[1].startswith("3 jobs were left alone: only a job that has ended can be retried. Chosen:")
    assert "1 RUNNING" in messages[1]
    for state, job in jobs.items():
        assert rows.state_of(job) is (JobState.READY if state in TERMINAL else state)


def test_cancel_of_many_says_how_many_and_why_not_the_others(admin_client, rows):
    """Those that wait are cancelled, those that run are asked to stop, the rest is left alone."""
    jobs = {state: rows.job(state) for state in JobState}
    messages = act(admin_client, "cancel_jobs", jobs.values())
    assert set(messages[:2]) == {"2 jobs: cancelled.", "1 job: asked to stop."}
    assert messages[2].startswith("4 jobs were left alone: only a job that has not ended can be cancelled.")
    for state, job in jobs.items():
        expected = JobState.CANCELLED if state in LIVE - {JobState.RUNNING} else state
        assert rows.state_of(job) is expected
    jobs[JobState.RUNNING].refresh_from_db()
    assert jobs[JobState.RUNNING].cancel_requested_at is not None


def test_the_epoch_stays_so_that_a_running_body_keeps_its_fence(admin_client, rows):
    """An action goes through the store: nothing but a claim raises the epoch."""
    job = rows.job(JobState.FAILED, epoch=7)
    act(admin_client, "retry_jobs", [job])
    job.refresh_from_db()
    assert (job.epoch, job.attempts, job.worker_id) == (7, 0, None)


def test_all_of_a_filter_are_acted_on_up_to_a_bound(admin_client, rows, monkeypatch):
    """Select all: it acts on all that fit the filter, not on the page; beyond the bound it says so."""
    for _ in range(7):
        rows.job(JobState.FAILED)
    one = rows.job(JobState.FAILED)
    monkeypatch.setattr(job_pages, "COUNTED", 6)
    monkeypatch.setattr(job_pages, "_BATCH", 4)
    messages = act(admin_client, "retry_jobs", [one], select_across=1)
    assert messages[0] == "6 jobs: ready to run again."
    assert "Only the newest 6" in messages[1]
    assert "manage.py meanwhile retry" in messages[1]
    assert rows.count(state=JobState.FAILED) == 2


def test_a_button_on_the_page_does_what_the_state_allows(admin_client, rows):
    """A live job has Cancel, one that has ended Retry; pressing it leads back to the page with a message."""
    for state in JobState:
        job = rows.job(state)
        verb, other = ("retry", "cancel") if state in TERMINAL else ("cancel", "retry")
        html = admin_client.get(reverse("admin:meanwhile_job_change", args=[job.pk])).content.decode()
        button = reverse(f"admin:meanwhile_job_{verb}", args=[job.pk])
        assert f'action="{button}"' in html
        assert reverse(f"admin:meanwhile_job_{other}", args=[job.pk]) not in html
        response = admin_client.post(button)
        assert response.url == reverse("admin:meanwhile_job_change", args=[job.pk])
        assert get_messages(response.wsgi_request)
        expected = {JobState.RUNNING: JobState.RUNNING} | dict.fromkeys(TERMINAL, JobState.READY)
        assert rows.state_of(job) is expected.get(state, JobState.CANCELLED)


def test_a_button_that_comes_too_late_says_so(admin_client, rows):
    """The job ended, or was claimed, while somebody looked at its page."""
    job = rows.job(JobState.SUCCESSFUL)
    response = admin_client.post(reverse("admin:meanwhile_job_cancel", args=[job.pk]))
    (message,) = get_messages(response.wsgi_request)
    assert "1 job was left alone" in str(message)
    assert "1 SUCCESSFUL" in str(message)


def test_a_button_wants_post_a_job_and_the_csrf_token(admin_client, rows):
    """A link, a picture in a mail or another site cannot press it."""
    job = rows.job()
    url = reverse("admin:meanwhile_job_cancel", args=[job.pk])
    assert admin_client.get(url).status_code == 405
    assert admin_client.post(url.replace(str(job.pk), str(job.pk)[::-1])).status_code == 404
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get())
    assert strict.post(url).status_code == 403
    assert rows.state_of(job) is JobState.READY


def test_view_permission_shows_and_changes_nothing(rows):
    """Whoever may only look sees lists and pages, no action and no button, and cannot make up the request."""
    job = rows.job()
    client = staff("view_job", "view_worker")
    html = client.get(reverse(JOBS)).content.decode()
    assert str(job.task) in html
    assert "cancel_jobs" not in html
    html = client.get(reverse("admin:meanwhile_job_change", args=[job.pk])).content.decode()
    url = reverse("admin:meanwhile_job_cancel", args=[job.pk])
    assert url not in html
    assert client.post(url).status_code == 403
    client.post(reverse(JOBS), {"action": "cancel_jobs", "_selected_action": [str(job.pk)], "index": 0})
    assert rows.state_of(job) is JobState.READY


def test_change_permission_allows_the_actions(rows):
    """The permission "change" is the one for retry and cancel."""
    job = rows.job()
    assert act(staff("change_job"), "cancel_jobs", [job]) == ["1 job: cancelled."]


def test_without_a_permission_there_is_nothing(rows):
    """Neither list, nor page, nor button."""
    job = rows.job()
    client = staff("view_worker")
    assert client.get(reverse(JOBS)).status_code == 403
    assert client.get(reverse("admin:meanwhile_job_change", args=[job.pk])).status_code == 403
    assert client.post(reverse("admin:meanwhile_job_cancel", args=[job.pk])).status_code == 403
    assert Client().post(reverse("admin:meanwhile_job_cancel", args=[job.pk])).status_code == 302


def test_every_action_is_noted_with_its_author(admin_client, rows):
    """The admin's log says who retried or cancelled which job, one entry for each that was chosen."""
    jobs = [rows.job() for _ in range(3)]
    act(admin_client, "cancel_jobs", jobs)
    entries = LogEntry.objects.all()
    assert {entry.object_id for entry in entries} == {str(job.pk) for job in jobs}
    assert {entry.change_message for entry in entries} == {"Cancelled."}
