"""The real corpora: what each is called, how it is read, and the tables that ``elp prepare`` writes.

A corpus is one module: ``CORPUS`` describes it, one reader returns rows and problems (:mod:`.reading`), which
``elp prepare``, ``elp check`` and the data set of a task all use, and ``prepare`` writes the tables of S3PRL's stock
tasks. :mod:`.registry` finds such modules. Nothing here knows S3PRL or torch, and nothing writes into a corpus.
"""
