"""NIfTI files: headers held against their files, images, and label maps as masks."""
