"""Hodei Jobs: jobs on demand, each in a disposable worker of its own."""

__version__ = "0.1.0"
