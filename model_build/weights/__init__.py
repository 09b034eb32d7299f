"""Owns reading weights from elsewhere: one loader a file, each strict, and `source.load` that picks one by name."""
