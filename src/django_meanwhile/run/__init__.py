"""One claimed job becomes one outcome. Knows nothing of queues, leases or threads."""
