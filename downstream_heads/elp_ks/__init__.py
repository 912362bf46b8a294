"""Keyword spotting on Speech Commands: ten words, silence, and everything else."""
