"""The checks behind helm/check.py, in reading order: topics, sources, releases (with restricted), refusals."""
