"""``create_task()``: coroutines that outlive their request."""
