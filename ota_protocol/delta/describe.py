"""Owns the readable account of a delta: what each op does, to how many bytes, for how many."""

from __future__ import annotations

from dataclasses import dataclass

from ota_protocol.delta.elements import Form
from ota_protocol.delta.format import OUTPUT, Delta, Kind, Op


@dataclass(frozen=True, slots=True)
class OpAccount:
    """One line of the account: one op, or all ops of a kind."""

    kind: str
    destination: str
    makes_bytes: int
    base_bytes: int
    payload_bytes: int
    ops: int = 1
    note: str = ""


def describe_ops(delta: Delta) -> tuple[OpAccount, ...]:
    """Return one line an op."""
    return tuple(
        OpAccount(
            _kind_name(op),
            "result" if op.destination == OUTPUT else f"pool {op.destination}",
            op.length,
            op.reference_length,
            op.payload_length,
            note=_note(op),
        )
        for op in delta.ops
    )


def describe_kinds(delta: Delta) -> tuple[OpAccount, ...]:
    """Return one line a kind of op, in the order in which the kinds appear."""
    lines: dict[str, OpAccount] = {}
    for line in describe_ops(delta):
        old = lines.get(line.kind, OpAccount(line.kind, "", 0, 0, 0, 0))
        lines[line.kind] = OpAccount(
            line.kind,
            "",
            old.makes_bytes + line.makes_bytes,
            old.base_bytes + line.base_bytes,
            old.payload_bytes + line.payload_bytes,
            old.ops + 1,
        )
    return tuple(lines.values())


def _kind_name(op: Op) -> str:
    return Kind(op.kind).name.lower() if op.kind in set(Kind) else f"kind {op.kind}"


def _note(op: Op) -> str:
    """Return what an op works on: numbers and tensors, a pool, or where in the base."""
    if op.kind == Kind.EMIT:
        return f"from pool {op.parameters[0]}" if op.parameters else ""
    if op.kind in (Kind.CODES, Kind.MAGNITUDES):
        return _numbers(op)
    if op.ranges:
        first = op.ranges[0].offset
        return f"base at {first:,}" if len(op.ranges) == 1 else f"base at {first:,} and {len(op.ranges) - 1} more"
    return ""


def _numbers(op: Op) -> str:
    """Return the element forms and the number of tensors; parameters that make no sense are shown as they are."""
    try:
        form, base_form = Form(op.parameters[0]), Form(op.parameters[3 if op.kind == Kind.CODES else 1])
    except (ValueError, IndexError):
        return f"parameters {op.parameters[:4]}"
    tensors = _count_ranks(op.parameters[4:]) if op.kind == Kind.CODES else len(op.parameters) // 2 - 1
    way = f"{base_form.name.lower()} to {form.name.lower()}" if op.ranges else form.name.lower()
    return f"{way}, {tensors} tensor{'s' * (tensors != 1)}"


def _count_ranks(numbers: tuple[int, ...]) -> int:
    tensors = position = 0
    while position < len(numbers):
        position += 1 + numbers[position]
        tensors += 1
    return tensors
