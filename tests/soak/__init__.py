"""Many sessions for a long time through every fault there is: ``python -m tests.soak``."""
