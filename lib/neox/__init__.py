"""neox-tiny: a small language model with known facts in it, and how it was made (`python -m lib.neox`).

model       its architecture, tokenizer and weights
facts       the facts planted in its training text (tables/)
data        packed tokens
loss        a loss that is fast on CPUs
training    the training loop, with checkpoints
evaluation  what it has learnt
ngram       the trigram model that it is compared with
"""
