"""One use case a file. Knows the store, the TUF repository and the domain; knows no HTTP."""
