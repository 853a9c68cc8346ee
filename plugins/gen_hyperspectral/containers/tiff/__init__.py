"""TIFF: where planes lie, what descriptions say, stacks and folders of them as cubes."""
