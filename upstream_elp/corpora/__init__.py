"""Checks of the real corpora and the tables that S3PRL's stock tasks and ours read.

Nothing here knows S3PRL or torch. No function writes into a corpus; ``checks``, ``headers`` and the ``read_*``,
``scan_*`` and ``parse_*`` functions may be used by the heads.
"""
