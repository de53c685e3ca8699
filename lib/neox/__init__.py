"""neox-tiny: a small language model with known facts in it, and how it was made (`python -m lib.neox`).

model       its architecture, tokenizer and weights as files (the shipped ones lie in lib/language/neox-tiny)
facts       the facts planted in its training text (tables/), and questions about them
data        what it reads: planted sentences mixed into a corpus, as packed tokens
loss        its training loss, fast on CPUs
training    the training loop, which resumes from checkpoints
evaluation  what it has learnt: loss by source, choices
ngram       the trigram model that it is compared with
__main__    the command line, and the stages of its training
"""
