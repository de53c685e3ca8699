"""Small networks, all seeds trained as one batch.

replicas  layers whose parameters have a leading dimension of replicas
training  the training loop of such networks (dictionaries and language models have their own)
images    MNIST, Fashion-MNIST and the embedded digits
"""
