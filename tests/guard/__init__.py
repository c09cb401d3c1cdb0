"""``MEANWHILE["GUARD"]``: what it notices, names and repairs, and what it leaves alone."""
