"""One scalar volume with its place in the patient: its grid, its values, and the body and lungs in it."""
