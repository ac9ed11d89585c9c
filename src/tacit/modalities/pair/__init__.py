"""Pairs: two modalities side by side, such as images with captions."""
