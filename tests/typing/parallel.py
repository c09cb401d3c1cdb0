"""What type checkers must say about a user's parallel code. Read by ``test_typing``, never run.

A line that must be refused ends in a comment with the codes of its errors.
"""

from functools import partial
from typing import assert_type

from django.contrib.auth.models import Group, User
from django.db.models import QuerySet

from django_meanwhile.concurrent import TaskGroup, aparallel, parallel


def number() -> int:
    return 1


def power(base: int, exponent: int) -> int:
    return base * exponent


async def text() -> str:
    return ""


# --- right ---

assert_type(parallel(number), tuple[int])
assert_type(parallel(number, lambda: "x", partial(power, 2, 3)), tuple[int, str, int])
assert_type(parallel(User.objects.all(), number, timeout=3)[0], QuerySet[User, User])
assert_type(parallel(User.objects.all(), Group.objects.all(), snapshot="reports")[1], QuerySet[Group, Group])
assert_type(parallel(number, number, return_exceptions=True), tuple[int | BaseException, int | BaseException])
assert_type(parallel(*[number] * 9, max_workers=2), tuple[int, ...])


async def view() -> None:
    assert_type(await aparallel(number, text, text()), tuple[int, str, str])
    assert_type((await aparallel(User.objects.all(), User.objects.acount()))[0], QuerySet[User, User])
    assert_type((await aparallel(User.objects.all(), User.objects.acount()))[1], int)
    assert_type(await aparallel(*[text] * 9, timeout=1), tuple[str, ...])


with TaskGroup(max_workers=2) as group:
    assert_type(group.create_task(power, 2, exponent=3).result(), int)
    group.create_task(power, "2", 3)  # error: arg-type
    group.create_task(power)  # error: call-arg
    group.create_task(number())  # error: arg-type


# --- wrong ---

first, second = parallel(number)  # error: misc
parallel(number())  # error: call-overload
parallel(power)  # error: arg-type
parallel(number, timout=3)  # error: call-overload
parallel(text, number, snapshot=3)  # error: call-overload
