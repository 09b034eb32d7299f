"""The demo fleet: the whole product on one machine by one command, and the same fleet in containers.

It owns how the parts are started, led through two releases and judged; what they do is theirs, and they are reached
only as an operator reaches them: by their commands and the registry's HTTP API.
"""
