"""Rows and blobs: the tables, the queries, the files known by digest."""
