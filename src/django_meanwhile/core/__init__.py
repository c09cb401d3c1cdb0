"""The ground floor: pure Python. No Django, no I/O, no threads.

Everything above decides with these words: states, jobs, outcomes, options.
"""
