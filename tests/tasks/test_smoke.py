import pytest
from tests.tasks.sample.tasks import add
@pytest.mark.django_db(transaction=True)
def test_it(database):
    r = add.using(backend=database, priority=5).enqueue(1, y=2)
    print(r)
    r.refresh(); print(r); print(r.task)
    print(r.cancel()); r.refresh(); print(r.errors)
    with pytest.raises(ValueError): r.return_value
    r.retry(); r.refresh(); print(r.state)
