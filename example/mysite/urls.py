"""Where everything is."""

from django.urls import include, path

from naive import pages as naive_pages
from naive import views as naive
from reports import jobs, pages, views

starts = [
    path("report/", views.start_report, name="start_report"),
    path("query/", views.start_query, name="start_query"),
    path("retry/", views.start_retry, name="start_retry"),
    path("timeout/", views.start_timeout, name="start_timeout"),
    path("cancel/", views.start_cancel, name="start_cancel"),
    path("poison/", views.start_poison, name="start_poison"),
    path("fan-out/", views.start_fan_out, name="start_fan_out"),
]
job = [
    path("", jobs.show, name="job"),
    path("status/", jobs.status, name="status"),
    path("cancel/", jobs.cancel, name="cancel"),
    path("again/", jobs.run_again, name="again"),
    path("file/", jobs.download, name="file"),
]
naive_ways = [
    path("", naive_pages.show, name="naive"),
    path("blocking/", naive_pages.framed(naive.blocking_view), name="naive_blocking"),
    path("thread/", naive_pages.framed(naive.thread_view), name="naive_thread"),
    path("query/", naive_pages.framed(naive.query_view), name="naive_query"),
    path("threads/", naive_pages.threads, name="naive_threads"),
]
urlpatterns = [
    path("", pages.home, name="home"),
    path("report/", pages.show, {"page": "report"}, name="report"),
    path("query/", pages.show, {"page": "query"}, name="query"),
    path("endings/", pages.show, {"page": "endings"}, name="endings"),
    path("start/", include(starts)),
    path("jobs/<uuid:job_id>/", include(job)),
    path("naive/", include(naive_ways)),
    path("inside/", include("inside.urls")),
    path("ping/", pages.ping, name="ping"),
]
