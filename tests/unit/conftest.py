"""Fixtures of the unit tests: the same bench as the fault suites have."""

from fault_kit import bench as bench
from fault_kit import make_bench as make_bench
