"""What a folder holds for a data set: one source a volume, with its masks and what is known about it."""
