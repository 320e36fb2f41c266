"""Metrics of classes: their numpy, the module that configures it, and a page for the Hub."""
