"""The data set `hyperspectral`: cubes found, prepared, cached, split, cut and scaled."""
