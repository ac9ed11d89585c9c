"""Recordings: speech and sound."""
