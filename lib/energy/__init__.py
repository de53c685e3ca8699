"""Energies of configurations, their minima, and what a configuration is compared with.

objective      similarities, kernels, the energy and its gradient
minimise       batched quasi-Newton descent
matching       configurations that fit a target, and re-optimised ones
excess_energy  how near a configuration is to a minimum of the energy
nulls          shuffled and permuted targets, p values
"""
