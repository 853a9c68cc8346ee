"""Plugins that break, each in its own way; and one that takes a name which is not its own."""
