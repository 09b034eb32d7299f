"""Owns compression for the wire: sensitivities, allocation of steps, rounding with the rate in it, and the search."""
