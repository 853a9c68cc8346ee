"""Noise paths in continuous time: VP, sub-VP, VE, EDM and rectified flow, one a module."""
