"""Dictionaries of activations: sparse autoencoders and projective dictionaries, their training and storage.

base        what all dictionaries share
sae         top-k, BatchTopK and L1 sparse autoencoders
projective  dictionaries that decode by projection
rows        sums over a few rows of a table, and their transposes
projection  the least-squares projection and its gradient
selection   top-k over latents
coding      sparse coding without an encoder
training    `fit`: several dictionaries from one stream of activations
storage     saved, loaded, exported to SAELens
planted     data with a known dictionary
recovery    whether that was found: cosines, absorption, splitting
references  plain versions, for tests and for the speed study
"""
