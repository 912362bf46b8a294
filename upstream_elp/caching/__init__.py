"""Frozen features are computed once: what may be cached, where it is kept, and how a run uses it."""
