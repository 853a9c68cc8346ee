"""Ends the program when it is loaded."""

raise SystemExit(7)
