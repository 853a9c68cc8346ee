"""zarr folders, formats 2 and 3: metadata, chunk files and their codecs."""
