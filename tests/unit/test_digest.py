"""Digests: one spelling, and a comparison that says what differs."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_protocol.digest import parse_digest, require_digest, sha256_hex
from ota_protocol.errors import DigestMismatchError, MalformedError


@given(st.lists(st.binary(max_size=64)))
def test_chunks_hash_like_the_whole(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    assert sha256_hex(chunks) == sha256_hex(whole) == hashlib.sha256(whole).hexdigest()


@pytest.mark.parametrize("text", ["", "ab", "AB" * 32, "ab" * 33, "zz" * 32, "../" + "a" * 61, "ab" * 32 + "\n"])
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(MalformedError, match="64 lower-case hexadecimal digits"):
        parse_digest(text)


def test_other_bytes_are_refused_by_name() -> None:
    require_digest(b"same", sha256_hex(b"same"), "model.onnx")
    with pytest.raises(DigestMismatchError, match=r"model\.onnx has digest"):
        require_digest(b"other", sha256_hex(b"same"), "model.onnx")
