"""Submissions in SUPERB's formats: the public set's predictions, their scores, the form, and the hidden set's layout.

`layout` lists the parts of a submission, `lines` checks one file of predictions, `truth` knows the test sets, `archive`
packs and opens a zip, `scoring` computes the site's numbers, `form` and `computed` fill the form, and `macs` counts.
"""
