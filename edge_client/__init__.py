"""The vehicle agent: it fetches models over metered links, verifies them, runs them, and keeps what works."""

VERSION = "0.1.0"
