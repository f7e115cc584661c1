"""Measures the client beside what people would use instead: ``python -m bench``.

Every figure is taken in a fresh interpreter (`bench.worker`), every peer is measured in the same run in turns with the
client, and the load comes from a process of its own (`bench.load`), so that the server is never what is measured.
"""
