"""Ten digits in three neurons (Wiechecki 2024).

outer       the image classifiers and the decoder with a bottleneck of three neurons
bottleneck  what these three neurons carry: activations, linear probes, how alike the models are
toy         the toy model of superposition (Elhage et al. 2022)
affinity    PWAK, and diffusion through it without an n x n matrix
denoising   diffusion on a nearest-neighbour graph, tuned by noise2self
inner       SAE, PSAE, DeePWAK, their controls and their variants that cannot see what they predict
clusters    baselines, how digits fall into clusters, enrichment
evaluation  the table of statistics of all inner models; the leak; training on pure noise
platonic    many clusters in small batches, and learned representatives
timing      the speed of diffusion and of replicas
evidence    from the tables to the numbers that the claims are judged by
figures     the figures of the report
"""
