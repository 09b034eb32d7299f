"""The registry: publishes signed releases and deltas, rolls them out to vehicles, counts the bytes."""
