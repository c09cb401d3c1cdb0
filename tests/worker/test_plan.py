"""What a worker will start: numbers from the settings and the flags, and the connections they cost."""

import json
from dataclasses import asdict

import pytest

from django_meanwhile.conf import Settings, WorkerSettings
from django_meanwhile.core.states import Executor
from django_meanwhile.worker.plan import (
    SERVICE_CONNECTIONS,
    SUPERVISOR_CONNECTIONS,
    ChildPlan,
    WorkerPlan,
    make_plan,
)


def test_without_flags_the_settings_are_the_plan():
    """Every number of the settings is in the plan."""
    settings = Settings(
        poll=2.0, worker=WorkerSettings(threads=3, coroutines=5, processes=1, queues=("a",), max_tasks=7)
    )
    plan = make_plan(settings)
    assert (plan.threads, plan.coroutines, plan.processes) == (3, 5, 1)
    assert (plan.queues, plan.max_tasks, plan.drain) == (("a",), 7, False)
    assert (plan.lease, plan.beat, plan.sweep, plan.poll) == (30.0, 10.0, 5.0, 2.0)
    assert (plan.grace, plan.stop_grace, plan.margin) == (settings.grace, settings.stop_grace, settings.margin)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("threads", 0),
        ("threads", 5),
        ("coroutines", 0),
        ("processes", 0),
        ("max_tasks", 10),
        ("drain", True),
        ("grace", 0),
        ("lease", 60),
    ],
)
def test_a_flag_outranks_its_setting(flag, value):
    """Given on the command line, zero and all, it is in force; None means not given."""
    assert getattr(make_plan(Settings(), **{flag: value}), flag) == value
    assert make_plan(Settings(), **{flag: None}) == make_plan(Settings())


@pytest.mark.parametrize("queues", [["mail"], ("mail", "default"), []])
def test_queues_are_a_tuple(queues):
    """In the order given; empty means every queue."""
    assert make_plan(Settings(), queues=queues).queues == tuple(queues)


@pytest.mark.parametrize("lease", [1, 2, 9, 30, 3600])
def test_a_lease_of_its_own_brings_what_depends_on_it(lease):
    """--lease alone keeps the order: two beats and a margin fit into the lease, and sweeps are not rarer."""
    plan = make_plan(Settings(), lease=lease)
    assert plan.beat * 2 <= plan.lease - plan.margin
    assert plan.sweep <= plan.lease
    assert plan.margin == lease / 5


def test_the_backend_says_which_database():
    """``OPTIONS["DATABASE"]``, else the router."""
    assert make_plan(Settings()).database == "default"
    assert make_plan(Settings(), backend="other").database == "other"


def test_an_unknown_backend_is_refused():
    """By Django's own error, with its name."""
    with pytest.raises(Exception, match="nowhere"):
        make_plan(Settings(), backend="nowhere")


@pytest.mark.parametrize(
    ("threads", "coroutines", "processes", "kinds"),
    [
        (8, 100, 2, ["shared", "process", "process"]),
        (8, 0, 0, ["shared"]),
        (0, 100, 0, ["shared"]),
        (0, 0, 3, ["process"] * 3),
        (0, 0, 0, []),
    ],
)
def test_the_children_of_a_plan(threads, coroutines, processes, kinds):
    """One child for threads and coroutines together, one for each process."""
    plan = make_plan(Settings(), threads=threads, coroutines=coroutines, processes=processes)
    assert [child.kind for child in plan.children] == kinds
    assert sum(child.slots for child in plan.children) == threads + coroutines + processes
    served = {executor for child in plan.children for executor in child.executors}
    assert served == set(plan.executors)
    assert (Executor.THREAD in served, Executor.ASYNCIO in served, Executor.PROCESS in served) == (
        threads > 0,
        coroutines > 0,
        processes > 0,
    )


def test_a_solo_child_runs_any_suspect_in_one_slot():
    """Whatever it was made for, a suspect runs alone in a main thread."""
    solo = ChildPlan(kind="solo")
    assert (solo.slots, solo.executors) == (1, tuple(Executor))


@pytest.mark.parametrize(
    ("threads", "coroutines", "processes", "bodies", "children"),
    [(8, 100, 2, 8 + 1 + 2, 3), (8, 0, 0, 8, 1), (0, 100, 0, 1, 1), (0, 0, 4, 4, 4), (1, 1, 1, 3, 2)],
)
def test_connections_are_counted(threads, coroutines, processes, bodies, children):
    """Each thread and each process keeps one, all coroutines share one; each child and the supervisor add theirs."""
    plan = make_plan(Settings(), threads=threads, coroutines=coroutines, processes=processes)
    assert plan.connections == SUPERVISOR_CONNECTIONS + children * SERVICE_CONNECTIONS + bodies


def test_a_plan_passes_through_json():
    """As a child gets it: what the supervisor has planned is what the child reads."""
    plan = make_plan(Settings(), queues=["mail"], max_tasks=5)
    again = WorkerPlan(**json.loads(json.dumps(asdict(plan))))
    assert asdict(again) | {"queues": tuple(again.queues)} == asdict(plan)
    for child in plan.children:
        assert ChildPlan(**json.loads(json.dumps(asdict(child)))) == child


def test_a_plan_asks_no_database():
    """``check`` prints it on hosts that cannot reach the database. (Access is forbidden to this test.)"""
    assert make_plan(Settings(), backend="other").database == "other"
