"""The three ways. The first two are how it is usually written; the second leaves out the rest."""

from concurrent.futures import ThreadPoolExecutor

from django_meanwhile.concurrent import parallel


def one_after_the_other(calls):
    return [call() for call in calls]


def in_naive_threads(calls):
    with ThreadPoolExecutor(len(calls)) as executor:
        futures = [executor.submit(call) for call in calls]
        return [future.result() for future in futures]


def in_parallel(calls):
    return parallel(*calls)
