"""Tasks as the user writes them, and jobs as the user sees them: decorator, enqueue, result.

=============  =====================================================================
decorator      ``@task``: makes a task and registers it
task           the frozen value behind the decorator, ``using()``, ``enqueue()``
registry       stored name → task; the only way from a row to code
backend        what ``TASKS`` names: enqueue, results, cancel, retry, checks
enqueue        one call → one row, and the refusals on the way
result         what became of a job; waiting for it
attempts       one run that did not succeed, and the errors that name an ending
progress       how far a running job says it is
unworked       queues that no living worker serves
inert          the context that bodies get where no worker runs them
=============  =====================================================================
"""
