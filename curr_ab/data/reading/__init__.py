"""Pairs from files as people have them."""
