"""The version, in the one place that the distribution's metadata reads too."""

__version__ = "0.1.0"
