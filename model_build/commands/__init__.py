"""Owns the subcommands of `ota-build`, one a file: options in, one call of the work, figures out."""
