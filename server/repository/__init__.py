"""The TUF side: keys, the first metadata, and each next version of it. Bytes in, bytes out."""
