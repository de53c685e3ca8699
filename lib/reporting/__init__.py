"""What a notebook shows, and what that was made from.

parameters  the checks of a notebook's parameters
claims      the ledger of claims and how one is judged
display     figures, tables, claims and provenance as outputs
figures     figures that studies share
staleness   what makes a report stale
"""
