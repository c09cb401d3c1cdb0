"""The README and `docs/`, held against the code: examples run, tables are compared, links resolve."""
