"""The error tree: the drawing in its docstring is the tree, and every text can carry a remedy."""

from __future__ import annotations

import re

from ota_protocol import errors


def _drawn() -> dict[str, str]:
    """Parents by error name as the docstring draws them."""
    parents: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.search(r"\b([A-Z]\w+Error)\b", line)
        if found is None:
            continue
        depth = found.start()
        while stack and stack[-1][0] >= depth:
            stack.pop()
        if stack:
            parents[found.group(1)] = stack[-1][1]
        stack.append((depth, found.group(1)))
    return parents


def test_the_drawing_is_the_tree() -> None:
    real = {
        name: cls.__bases__[0].__name__
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, errors.OtaError) and cls is not errors.OtaError
    }
    assert _drawn() == real


def test_the_text_says_what_happened_and_what_to_do() -> None:
    assert str(errors.RequestError("no such folder", remedy="give one that exists")) == (
        "no such folder; give one that exists"
    )
    assert str(errors.DeltaError("range ends past the base", op="op 3 (copy)")) == (
        "delta op 3 (copy): range ends past the base"
    )
