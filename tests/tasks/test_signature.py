"""Arguments that a task's function would not take: refused at the enqueue, with the line to write."""

from functools import partial

import pytest

from django_meanwhile.models import Job

from .sample.tasks import add, fetch, report, with_context


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (partial(add.enqueue), r"tasks.add: missing a required argument: 'x'. Write add.enqueue\(x, y=1\)\.$"),
        (partial(add.enqueue, 1, 2, 3), "too many positional arguments"),
        (partial(add.enqueue, 1, z=3), "got an unexpected keyword argument 'z'"),
        (partial(add.enqueue, 1, x=3), "multiple values for argument 'x'"),
        (partial(fetch.enqueue, "u", 1), "too many positional"),
        (partial(with_context.enqueue), r"missing a required argument: 'n'. Write with_context.enqueue\(n\)\.$"),
        (partial(with_context.enqueue, 1, 2), r"too many positional arguments. Write with_context.enqueue\(n\)\.$"),
        (partial(report.enqueue, dat=1), r"Write report.enqueue\(.*\)\. It takes no dat=\. Did you mean data=\?$"),
        (partial(add.enqueue, colour=1), r"Write add.enqueue\(x, y=1\)\. It takes no colour=\.$"),
        (partial(with_context.enqueue, None, 2), r"The worker passes the context: leave it out\.$"),
        (partial(with_context.enqueue, context=None, n=2), "takes no context=. The worker passes the context"),
    ],
)
@pytest.mark.django_db
def test_wrong_arguments(call, text):
    """A call that the function would not take is a TypeError at enqueue, and writes nothing."""
    with pytest.raises(TypeError, match=text):
        call()
    assert not Job.objects.exists()
