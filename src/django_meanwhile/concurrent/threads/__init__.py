"""Pools of threads that leak nothing: the executor, its threads, their connections, and whoever borrows one."""
