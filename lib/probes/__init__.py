"""From labelled items to probe directions.

items          labelled items (tokens or names) and the pooling of their activations
sets           the feature sets: athletes, politicians, compounds, text
gurnee         the published data sets of Gurnee et al. 2023
text_features  labels of tokens by their text, and which tokens a feature uses
prompts        the sentences around names and compounds
logistic       the solver: batched logistic regressions
fit            probes of all layers and features as one batch; AUC, splits, shuffled labels
directions     probe directions of a model, with shuffled labels and with random weights
"""
