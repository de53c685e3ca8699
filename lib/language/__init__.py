"""Language models and texts.

loading      finding and loading a model's folder; `neox-tiny`, which ships with the project, lies here
model        a loaded model: tokens, hooks, activations by name
activations  activations of a batch of tokens
cache        activations kept on disk, as memory maps
corpus       texts: embedded ones and the corpus of DATA_DIR
"""
