"""For each notebook, in a folder of its name, what it alone needs; a study imports no other study."""
