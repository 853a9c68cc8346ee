"""MATLAB files: v5 read here, v7.3 as the HDF5 that it is."""
