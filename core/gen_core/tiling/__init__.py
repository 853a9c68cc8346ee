"""Volumes larger than memory: networks worked through tile by tile."""
