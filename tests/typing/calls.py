"""What type checkers must say about a user's code. Read by ``test_typing``, never run.

A line that must be refused ends in a comment with the codes of its errors.
"""

from datetime import date, timedelta
from typing import assert_type

from django_meanwhile import ExponentialBackoff, TaskContext, TaskResult, task


@task
def add(x: int, y: int = 1) -> int:
    return x + y


@task(executor="process", timeout=120, max_attempts=5, backoff=ExponentialBackoff(), retry_on=OSError)
def report(data: dict[str, str], *, day: date | None = None) -> str:
    return f"{data} {day}"


@task
async def fetch(url: str) -> bytes:
    return url.encode()


@task(queue_name="net")
async def fetch_slowly(url: str) -> bytes:
    return url.encode()


@task(takes_context=True)
def rows(context: TaskContext, path: str) -> None:
    context.progress(1, 2, "half")
    context.raise_if_stopped()


@task(takes_context=True)
async def rows_async(context: TaskContext, path: str) -> float:
    return float(context.attempt)


# --- right ---

assert_type(add.enqueue(1, y=2), TaskResult[int])
assert_type(add.enqueue(1).return_value, int)
assert_type(report.enqueue({"a": "b"}, day=date.today()).return_value, str)
assert_type(fetch.enqueue("u").return_value, bytes)
assert_type(fetch_slowly.enqueue("u").return_value, bytes)
assert_type(rows.enqueue("p").return_value, None)
assert_type(rows_async.enqueue("p").return_value, float)
assert_type(add.using(priority=3, run_after=timedelta(minutes=5), executor="process").enqueue(1), TaskResult[int])
assert_type(add.enqueue_many([(1,), {"x": 2}]), list[TaskResult[int]])
assert_type(add.get_result("id").wait(timeout=3).return_value, int)


async def view() -> None:
    assert_type((await fetch.aenqueue("u")).return_value, bytes)
    assert_type(await (await add.aenqueue(1)).aresult(timeout=5), int)
    assert_type(await add.aenqueue_many([(1,)]), list[TaskResult[int]])
    await add.aenqueue("1")  # error: arg-type


# --- wrong ---

add.enqueue("1")  # error: arg-type
add.enqueue()  # error: call-arg
add.enqueue(1, 2, 3)  # error: call-arg
add.enqueue(1, z=2)  # error: call-arg
report.enqueue({"a": "b"}, date.today())  # error: call-arg
fetch.enqueue(1)  # error: arg-type
rows.enqueue(1)  # error: arg-type
rows.enqueue("p", "q")  # error: call-arg
add.using(priority="high")  # error: arg-type
add.using(prioritty=3)  # error: arg-type
add.using(executor="threads")  # error: arg-type
add.enqueue_many([1])  # error: list-item


@task(timout=3)  # error: call-overload, untyped-decorator
def misspelt() -> None: ...


@task(executor="threads")  # error: call-overload, untyped-decorator
def misrouted() -> None: ...
