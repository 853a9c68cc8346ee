"""Files of cubes: one module a format, or a folder where a format takes several."""
