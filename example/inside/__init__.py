"""Concurrency inside one request: the same page made in three ways, beside each other."""
