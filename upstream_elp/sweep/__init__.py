"""Sweeps: a plan file describes many runs; they are expanded, checked, run in a bounded pool or on a cluster, and
summarised."""
