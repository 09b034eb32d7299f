"""Owns the rewrites of a network: one a file, named by what it does, each checking what it requires and ensures."""
