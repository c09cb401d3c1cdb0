"""Concurrency inside a request: the executor and all that is built on it."""
