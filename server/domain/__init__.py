"""Pure decisions and values: no database, no clock, no files."""
