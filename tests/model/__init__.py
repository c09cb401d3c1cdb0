"""An explicit-state model of the lease protocol, and the checker that explores it."""
