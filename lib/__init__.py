"""Superposition Studies: what the reports share, in rooms by subject.

common        errors, files, progress, timing, metrics: for all rooms
networks      small networks trained as one batch of replicas, and images
dictionaries  sparse autoencoders and projective dictionaries (public: `from lib.dictionaries import ...`)
energy        energies of pairwise similarities, matching, excess energy
language      language models, their activations on disk, texts
neox          neox-tiny: its training and the facts planted in it
probes        labelled items, logistic probes, their directions
reporting     parameters, claims, figures and tables of a notebook; what makes a report stale
pipeline      batches, pages, index (nothing else imports it)
studies       for each notebook what it alone needs
"""
