"""What a registry and its vehicles must agree on. No network, no database, no clock, no files."""
