"""Fuzzing of the decoder and of the state machine: ``python -m tests.fuzz``."""
