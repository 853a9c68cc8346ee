"""One scalar volume with its place in the patient: its grid, what is put on it, and the body and lungs in it."""
