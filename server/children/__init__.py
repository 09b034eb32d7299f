"""Programs that run in bounded child processes, away from the registry's memory and keys."""
