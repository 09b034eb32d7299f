"""HTTP only, one noun a file: parses requests, calls one service, shapes the answer."""
