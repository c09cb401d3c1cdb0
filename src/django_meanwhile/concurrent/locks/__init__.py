"""``Lock``: one holder across threads, processes and hosts."""
