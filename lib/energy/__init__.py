"""Energies of configurations, their minima, and what a configuration is compared with.

objective  similarities, kernels, the energy and its gradient
minimise   batched quasi-Newton descent
matching   configurations that fit a target, and re-optimised ones
landscape  excess energy: how near a configuration is to a minimum
nulls      shuffled and permuted targets, p values
"""
