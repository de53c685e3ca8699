"""Is the geometry of probe directions a minimum of an energy? (slides, 2024)

feature_sets  which features are probed in which layers, with the probes of their nulls; over training
strengths     how probes depend on the strength of their regularisation
layers        statistics of one layer of a feature set
measures      what is measured of one layer's directions: excess energy, perturbation, importance, drift
slides        energy matching as in the slides, through scipy
embeddings    simplices of kindred tokens in the embedding matrices
timing        ours against scipy and scikit-learn
tables        the notebook's tables: each measure over every feature set, layer and seed
figures       the notebook's figures
evidence      from the tables to the numbers that judge each claim
"""
