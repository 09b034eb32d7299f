"""The Range header."""

from __future__ import annotations

import pytest
from starlette.exceptions import HTTPException

from server.api.ranges import Range, parse_range


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [("bytes=0-0", 0, 1), ("bytes=5-", 5, 10), ("bytes=-3", 7, 10), ("bytes=-30", 0, 10), ("bytes=2-99", 2, 10)],
)
def test_one_range(header: str, start: int, end: int) -> None:
    assert parse_range(header, 10) == Range(start, end, is_part=True)


@pytest.mark.parametrize(
    "header", [None, "", "bytes=", "bytes=-", "items=0-1", "bytes=0-1,3-4", "bytes=4-2", "bytes=" + "9" * 40 + "-"]
)
def test_what_is_no_single_range_is_the_whole_file(header: str | None) -> None:
    assert parse_range(header, 10) == Range(0, 10, is_part=False)


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_beyond_the_end(header: str) -> None:
    with pytest.raises(HTTPException) as refused:
        parse_range(header, 10)
    assert refused.value.status_code == 416
    assert refused.value.headers == {"Content-Range": "bytes */10"}
