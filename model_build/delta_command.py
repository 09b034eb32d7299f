"""Owns the command `ota-delta`: make, apply and show deltas of files. The codec itself is `ota_protocol.delta`."""

from __future__ import annotations

import errno
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ota_protocol.delta.apply import apply
from ota_protocol.delta.describe import OpAccount, describe_kinds, describe_ops
from ota_protocol.delta.encode import encode
from ota_protocol.delta.format import Delta, read_delta
from ota_protocol.delta.limits import Limits
from ota_protocol.delta.source import Source
from ota_protocol.errors import DiskFullError, OtaError, RequestError, StorageError
from ota_protocol.manifest import MAX_ARTIFACT_BYTES

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make, apply and show deltas between files.",
)

BaseArgument = Annotated[Path, typer.Argument(help="File that the delta starts from; - for the empty base.")]
_NO_BASE = Path("-")
_MANY_OPS = 40


class FileSource:
    """A file on disk, read as the codec asks for it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.length_bytes = os.fstat(file.fileno()).st_size

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`."""
        return os.pread(self._file.fileno(), length, offset)


@app.command()
def make(
    base: BaseArgument,
    result: Annotated[Path, typer.Argument(help="File that the delta yields.")],
    delta: Annotated[Path, typer.Argument(help="Where the delta is written.")],
) -> None:
    """Write DELTA, which turns BASE into RESULT."""
    wanted = _read_file(result)
    known = None if base == _NO_BASE else _read_file(base)
    with _bar("making") as report:
        made = encode(known, wanted, progress=report)
    with _replacing(delta) as file:
        file.write(made)
    typer.echo(f"{delta}: {len(made):,} bytes, {len(made) / max(1, len(wanted)):.2%} of {result}")


@app.command("apply")
def apply_command(
    base: BaseArgument,
    delta: Annotated[Path, typer.Argument(help="The delta.")],
    result: Annotated[Path, typer.Argument(help="Where the result is written; nothing is left there on an error.")],
    memory_mb: Annotated[int, typer.Option(help="Most working memory that a delta may ask for, in MiB.")] = 64,
) -> None:
    """Write RESULT, what DELTA makes of BASE."""
    limits = Limits(memory_bytes=memory_mb << 20)
    with _optional_source(base) as known, _source(delta) as program, _bar("applying") as report:
        total = max(1, read_delta(program, limits=limits).header.result_length)
        with _replacing(result) as file:
            written = 0

            def write(piece: bytes) -> None:
                nonlocal written
                file.write(piece)
                written += len(piece)
                report(written / total)

            header = apply(known, program, write, limits=limits)
    typer.echo(f"{result}: {header.result_length:,} bytes, sha256 {header.result_digest}")


@app.command()
def show(
    delta: Annotated[Path, typer.Argument(help="The delta.")],
    every: Annotated[bool, typer.Option("--all", help="One line an op even where there are many.")] = False,
) -> None:
    """Print what DELTA does: its header, its ops, their coders and bytes."""
    with _source(delta) as program:
        found = read_delta(program, limits=Limits(memory_bytes=MAX_ARTIFACT_BYTES))
    console = Console()
    _print_header(console, found)
    lines = describe_ops(found) if every or len(found.ops) <= _MANY_OPS else describe_kinds(found)
    console.print(_table(lines))


def main() -> None:
    """Run the command; an error is one line and an exit code."""
    try:
        app()
    except OtaError as error:
        typer.echo(f"ota-delta: {error}", err=True)
        sys.exit(error.exit_code)


# ── showing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _print_header(console: Console, delta: Delta) -> None:
    header = delta.header
    base = f"{header.base_digest}, {header.base_length:,} bytes" if header.base_digest else "none (a compressed full)"
    console.print(f"base     {base}", soft_wrap=True)
    console.print(f"result   {header.result_digest}, {header.result_length:,} bytes", soft_wrap=True)
    console.print(f"memory   {header.memory_bytes:,} bytes · {len(delta.ops)} ops")


def _table(lines: tuple[OpAccount, ...]) -> Table:
    table = Table("op", "to", "makes", "of base", "payload", "ops", "note", show_footer=True)
    for column in table.columns[2:6]:
        column.justify = "right"
    for line in lines:
        table.add_row(
            line.kind,
            line.destination,
            f"{line.makes_bytes:,}",
            f"{line.base_bytes:,}",
            f"{line.payload_bytes:,}",
            str(line.ops),
            line.note,
        )
    table.columns[4].footer = f"{sum(line.payload_bytes for line in lines):,}"
    return table


@contextmanager
def _bar(label: str) -> Iterator[Callable[[float], None]]:
    """Show a progress bar on stderr where a person looks at it."""
    console = Console(stderr=True)
    columns = (TextColumn(label), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=1.0)
        yield lambda share: progress.update(task, completed=share)


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _foreign_errors(path: Path) -> Iterator[None]:
    """Map what the operating system raises about a file."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, PermissionError, NotADirectoryError) as error:
        raise RequestError(f"{path}: {error.strerror}", remedy="check the path") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"{path}: no space left", remedy="free some space and try again") from error
        raise StorageError(f"{path}: {error.strerror}") from error


def _read_file(path: Path) -> bytes:
    with _foreign_errors(path):
        length = path.stat().st_size
        if length > MAX_ARTIFACT_BYTES:
            raise RequestError(f"{path} has {length:,} bytes, at most {MAX_ARTIFACT_BYTES:,} are coded")
        return path.read_bytes()


@contextmanager
def _optional_source(path: Path) -> Iterator[Source | None]:
    """Yield the file, or None where it is `-`."""
    if path == _NO_BASE:
        yield None
        return
    with _source(path) as source:
        yield source


@contextmanager
def _source(path: Path) -> Iterator[Source]:
    with _foreign_errors(path):
        file = path.open("rb")
    with file:
        yield FileSource(file)


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of `path` once everything is on the disk, or vanishes."""
    partial = path.absolute().with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    with _foreign_errors(path):
        try:
            with partial.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        folder = os.open(partial.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


if __name__ == "__main__":
    main()
