"""For all rooms; imports no other.

errors     the errors that are one line for the user
files      where files are, written whole or not at all; hashes
metrics    FVU, sparsity, agreement of representations and of clusterings
precision  how many digits matrix products keep
progress   bars in a terminal and in JupyterLab, never in a report
timing     threads, seconds, memory, the device
"""
