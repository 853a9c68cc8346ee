"""An example of a plugin: rings to learn from, a linear codec, and a mean absolute error."""
