"""Hyperspectral cubes. From the ground: `cubes`; `containers`, which open files; `prepare`; the `dataset` on top.

`photographs` stand beside the data set, `writers` and the `phantom` apart: `plugin.py` says what there is, and readers
reach the data set through the registry. Settings that several rooms read lie beside it.
"""
