"""Projective dictionaries against top-k sparse autoencoders (Sklar 2024)."""
