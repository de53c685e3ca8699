"""Batches, pages and the index; imported by nothing but the Snakefile and the command line.

batch      the runs of batches.yaml, executed
markup     one cell of a notebook as HTML
pages      how a page and the index are rendered (templates/)
readme     README's table of studies
status     which committed reports are current, and what made the others stale
"""
