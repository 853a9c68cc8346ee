"""The command line: reads arguments, calls core, prints. Nothing imports it."""
