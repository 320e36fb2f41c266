"""Probes: ridge and logistic regressions on frozen features of pairs, chosen inside the training part."""
