"""Sequences of events: what people did, and with which items."""
