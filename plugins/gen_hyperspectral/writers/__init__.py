"""Volumes as files that readers of cubes open; each says where it came from, and whether it is synthetic."""
