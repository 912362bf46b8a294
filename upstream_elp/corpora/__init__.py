"""The real corpora: their descriptions, their readers, and the tables that ``elp prepare`` writes.

A corpus is one module. Its ``CORPUS`` describes it; its reader returns rows and problems (:mod:`.reading`) for
``elp prepare``, ``elp check`` and the data sets of tasks; its ``prepare`` writes the tables of S3PRL's stock tasks.
:mod:`.registry` finds these modules. Nothing here needs S3PRL or torch, and nothing writes into a corpus.
"""
