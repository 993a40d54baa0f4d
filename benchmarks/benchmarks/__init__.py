"""Suites for asv, and what they share with ``compare.py``: the layer table and the machine's peak."""
