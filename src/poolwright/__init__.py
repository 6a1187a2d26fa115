"""Poolwright: the workerpool side of the iExec network."""

__version__ = "0.1.0"
