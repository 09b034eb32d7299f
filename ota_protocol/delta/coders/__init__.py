"""The coders: how an op's numbers come back from its payload. One coder a file; `registry` lists them."""
