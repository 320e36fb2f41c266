"""Pretraining: plan, batches, loop, saved states, checkpoint folders."""
