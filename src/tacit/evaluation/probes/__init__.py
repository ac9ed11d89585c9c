"""Probes fitted on frozen features, and training on labels."""
