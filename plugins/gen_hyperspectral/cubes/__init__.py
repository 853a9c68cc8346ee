"""What every container of cubes shares: names, axes, wavelengths, promises held against files, and cubes in pieces."""
