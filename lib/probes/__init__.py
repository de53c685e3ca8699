"""From labelled items to probe directions.

items          labelled items (tokens or entities) to probe
sets           the feature sets: athletes, politicians, compounds, text
gurnee         data sets in the format of Gurnee et al. 2023
text_features  labels of tokens by regular expressions
prompts        the sentences around names and compounds
logistic       batched logistic regression
fit            probes of all layers and features as one batch
directions     probe directions of a model, and their nulls
"""
