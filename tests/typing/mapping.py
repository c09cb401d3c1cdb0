"""What type checkers must say about a user's maps and background coroutines. Read by ``test_typing``, never run.

A line that must be refused ends in a comment with the codes of its errors.
"""

from typing import assert_type

from django_meanwhile.concurrent import aparallel_map, create_task, parallel_map


def name(number: int) -> str:
    return str(number)


async def fetch(number: int) -> bytes:
    return bytes(number)


for found in parallel_map(name, [1, 2], executor="process", chunk_size=2):
    assert_type(found, str)
parallel_map(name, [1]).close()


async def view() -> None:
    async for text in aparallel_map(name, [1]):
        assert_type(text, str)
    async for data in aparallel_map(fetch, [1], max_workers=2, ordered=False, timeout=None):
        assert_type(data, bytes)
    assert_type(await create_task(fetch(1), name="fetch"), bytes)


# --- wrong ---

parallel_map(name, ["1"])  # error: arg-type
parallel_map(name, [1], executor="threads")  # error: arg-type
parallel_map(name)  # error: call-arg
create_task(fetch)  # error: arg-type
aparallel_map(name, [1], executor="threads")  # error: call-overload
aparallel_map(fetch, [1], chunks=2)  # error: call-overload
