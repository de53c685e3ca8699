"""Projective dictionaries against top-k sparse autoencoders (Sklar 2024).

methods       the methods by name, and which of them each comparison takes
factorial     planted data: training x selection x coefficients; learning rates; baselines
importance    what the importances of ridge dictionaries say
hidden        dictionaries of images and of the hidden layers of a classifier
transcoding   transcoders, with and without sight of the target
variables     networks of known variables to intervene on
interchange   interventions: swaps of subspaces and of coefficients, learned rotations (DAS)
alignment     ways of alignment search compared
runs          all that is trained, as jobs that run side by side
tables        what was measured, and the tables that the notebook shows
figures       the figures of the notebook
evidence      what each claim is judged by
"""
