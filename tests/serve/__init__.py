"""``manage.py serve``, with real servers."""
