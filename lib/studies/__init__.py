"""For each notebook, in a folder of its name, what it alone needs; no study imports another.

CONTRIBUTING.md says how to add one.
"""
