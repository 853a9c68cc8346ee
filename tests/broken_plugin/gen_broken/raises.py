"""Raises when it is loaded."""

raise RuntimeError("no licence found")
