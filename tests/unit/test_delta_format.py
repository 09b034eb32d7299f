"""Headers and programs come back as they were written, and a delta's prose says what its bytes are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ota_protocol.delta.elements import Form
from ota_protocol.delta.format import MAGIC, VERSION, Kind, Op, Range, read_delta, read_header, write_delta
from ota_protocol.delta.source import BytesSource
from ota_protocol.digest import sha256_hex

PAGE = Path(__file__).resolve().parents[2] / "docs" / "delta-format.md"
BASE, RESULT = (sha256_hex(b"base"), 4_000), (sha256_hex(b"result"), 330)
OPS = (
    Op(Kind.INSERT, 100, 1, (Range(10, 5), Range(3, 900)), (), 3),
    Op(Kind.COPY, 30, 0, (Range(0, 10), Range(3_980, 20))),
    Op(Kind.EMIT, 100, 0, (), (1,)),
    Op(Kind.CODES, 200, 0, (Range(100, 200),), (1, 2, 0, 1, 2, 10, 20), 4),
)
PAYLOADS = (b"abc", b"", b"", b"defg")


@pytest.mark.parametrize("base", [BASE, None])
def test_header_and_program_come_back(base: tuple[str, int] | None) -> None:
    ops = OPS if base else (Op(Kind.INSERT, 330, payload_length=3),)
    delta = write_delta(base, RESULT, 12_345, ops, PAYLOADS if base else (b"abc",))
    found = read_delta(BytesSource(delta))
    assert found.ops == ops
    assert (found.header.base_digest, found.header.base_length) == (base or (None, 0))
    assert (found.header.result_digest, found.header.result_length) == RESULT
    assert found.header.memory_bytes == 12_345
    assert read_header(BytesSource(delta)) == found.header


def test_the_page_names_every_kind_and_form() -> None:
    page = PAGE.read_text()
    for kind in Kind:
        assert re.search(rf"^\| {kind.value} \| {kind.name} \|", page, re.MULTILINE), kind
    for form in Form:
        name = form.name.lower().replace("_varints", "")
        assert re.search(rf"\b{form.value} {name}\b", page), form
    assert f"version {VERSION}" in page and MAGIC.hex(" ") in page
