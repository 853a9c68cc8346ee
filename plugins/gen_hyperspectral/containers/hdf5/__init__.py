"""HDF5: the library asked in a process of its own, chunks read and unpacked in this one."""
