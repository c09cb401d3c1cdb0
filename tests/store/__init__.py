"""The conformance suite of the stores: one set of theorems, proven on every vendor.

``scene`` holds what the tests have in common: jobs, workers, actors (threads with connections
of their own) and moments at which one of them waits for another.
"""
