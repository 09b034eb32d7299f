"""Owns the packed byte string: plain, zstd with a dictionary, raw LZMA, or entropy-coded, named by a first byte.

Everything in a delta that is not numbers travels this way: the program itself, graph text, byte differences. Zstd and
LZMA come from kept libraries (`zstandard`, the standard library's `lzma`). Packing tries what promises something.
"""

from __future__ import annotations

import io
import lzma
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import zstandard

from ota_protocol.delta.entropy import decode_symbols, encode_symbols
from ota_protocol.delta.varint import Cursor, write_unsigned
from ota_protocol.errors import DeltaError

PLAIN: Final = 0
ZSTD: Final = 1
LZMA: Final = 2
SYMBOLS: Final = 3
"""Methods. SYMBOLS codes bytes by their frequencies alone; LZMA begins with lc + 9·(lp + 5·pb) and the log₂ of its
dictionary, a byte each."""

CHUNK_BYTES: Final = 256 << 10
"""What is unpacked is handed on in pieces of this size."""
SYMBOLS_BLOCK: Final = 1 << 19
"""Bytes with a frequency table of their own."""
MAX_WINDOW_LOG: Final = 26
"""64 MiB; larger windows do not fit the vehicle's memory."""
_MIN_WINDOW_LOG: Final = 12
_SYMBOLS_FACTOR: Final = 28
"""Memory of decoding a block of symbols, for each of its bytes."""
_FIXED_BYTES: Final = 1 << 20
"""Pieces on their way, and what the decompressors hold beside their windows."""
_SAMPLES: Final = 4
_SAMPLE_BYTES: Final = 1 << 13
_PROMISE: Final = 0.99
"""What saves less than this in the sample is not tried on the whole."""
_LZMA_TRIALS: Final = ((3, 0, 0), (4, 0, 0), (0, 0, 0), (3, 0, 2), (0, 2, 2))
"""(lc, lp, pb): text, long text, order-0 residuals, mixtures, 4-byte records."""


def pack(data: bytes, dictionary: bytes = b"", *, numbers: bool = False) -> bytes:
    """Return the shortest packed form of `data` that was found.

    Args:
        dictionary: bytes known to both ends.
        numbers: the bytes come from numbers, where repeated strings are the exception: a sample decides whether
            looking for them is worth the time.
    """
    plain = bytes([PLAIN]) + data
    sample = _sample(data)
    if len(sample) == len(data):
        tried = (_lzma(data, trial) for trial in _LZMA_TRIALS)
        return min(plain, _zstd(data, dictionary), _symbols(data), *tried, key=len)
    if dictionary:
        return min(plain, _zstd(data, dictionary), key=len)
    trial = min(_LZMA_TRIALS, key=lambda trial: len(_lzma(sample, trial)))
    by_symbols, by_lzma = len(_symbols(sample)), len(_lzma(sample, trial))
    candidates = [plain]
    if by_symbols < _PROMISE * len(sample):
        candidates.append(_symbols(data))
    if not numbers or by_lzma < _PROMISE * min(by_symbols, len(sample)):
        candidates.append(_lzma(data, trial))
    return min(candidates, key=len)


def _sample(data: bytes) -> bytes:
    """Return a few stretches of `data`, or all of it where it is short."""
    if len(data) <= _SAMPLES * _SAMPLE_BYTES:
        return data
    step = (len(data) - _SAMPLE_BYTES) // (_SAMPLES - 1)
    return b"".join(data[number * step : number * step + _SAMPLE_BYTES] for number in range(_SAMPLES))


def unpack(packed: bytes, length: int, part: str, *, dictionary: bytes = b"", memory_bytes: int) -> bytes:
    """Return the `length` bytes that were packed.

    Raises:
        DeltaError: named by `part`; they are fewer or more, damaged, or need more than `memory_bytes`.
    """
    if length > memory_bytes:
        raise DeltaError(f"{length:,} bytes are above the memory limit of {memory_bytes:,}", op=part)
    return b"".join(unpack_stream(packed, length, part, dictionary=dictionary, memory_bytes=memory_bytes))


def unpack_stream(
    packed: bytes, length: int, part: str, *, dictionary: bytes = b"", memory_bytes: int
) -> Iterator[bytes]:
    """Yield the `length` bytes that were packed, piece by piece.

    Raises:
        DeltaError: as `unpack`.
    """
    if not packed:
        raise DeltaError("the packed bytes are missing", op=part)
    method, body = packed[0], packed[1:]
    if method == PLAIN:
        yield from _plain(body, length, part)
    elif method == ZSTD:
        yield from _unzstd(body, length, part, dictionary, memory_bytes)
    elif method == LZMA:
        yield from _unlzma(body, length, part, memory_bytes)
    elif method == SYMBOLS:
        yield from _unsymbols(body, length, part)
    else:
        raise DeltaError(f"packing method {method} is unknown", op=part, remedy="update the agent")


def _plain(body: bytes, length: int, part: str) -> Iterator[bytes]:
    if len(body) != length:
        raise DeltaError(f"{len(body):,} plain bytes for {length:,}", op=part)
    for first in range(0, length, CHUNK_BYTES):
        yield body[first : first + CHUNK_BYTES]


# ── frequencies alone ───────────────────────────────────────────────────────────────────────────────────────────────


def _symbols(data: bytes) -> bytes:
    out = bytearray([SYMBOLS])
    for first in range(0, len(data), SYMBOLS_BLOCK):
        block = np.frombuffer(data, np.uint8)[first : first + SYMBOLS_BLOCK]
        coded = encode_symbols(block, None, 256, 1)
        out += write_unsigned(len(coded)) + coded
    return bytes(out)


def _unsymbols(body: bytes, length: int, part: str) -> Iterator[bytes]:
    cursor = Cursor(body, part)
    for first in range(0, length, SYMBOLS_BLOCK):
        coded = cursor.take(cursor.unsigned())
        try:
            yield decode_symbols(coded, min(SYMBOLS_BLOCK, length - first), None, 256, 1).tobytes()
        except DeltaError as error:
            raise DeltaError(error.message, op=part, remedy="fetch it again") from error
    if cursor.remaining:
        raise DeltaError("bytes follow its last block", op=part)


# ── zstd ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def unpack_memory(length: int, dictionary: int = 0) -> int:
    """Return the bytes that unpacking needs: a window, a dictionary known already, and pieces on their way."""
    window = 1 << _window_log(length + dictionary)
    return dictionary + max(2 * window, _SYMBOLS_FACTOR * min(length, SYMBOLS_BLOCK)) + _FIXED_BYTES


def _window_log(size: int) -> int:
    return max(_MIN_WINDOW_LOG, min(MAX_WINDOW_LOG, max(1, size - 1).bit_length()))


def _zstd(data: bytes, dictionary: bytes) -> bytes:
    size = len(data) + len(dictionary)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        22,
        source_size=size,
        window_log=_window_log(size),
        enable_ldm=size > 1 << 20,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=False,
        write_checksum=False,
        write_dict_id=False,
    )
    known = zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if dictionary else None
    compressor = zstandard.ZstdCompressor(compression_params=parameters, dict_data=known)
    return bytes([ZSTD]) + compressor.compress(data)


def _unzstd(body: bytes, length: int, part: str, dictionary: bytes, memory_bytes: int) -> Iterator[bytes]:
    window = min(memory_bytes, 1 << MAX_WINDOW_LOG)
    known = zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if dictionary else None
    decompressor = zstandard.ZstdDecompressor(
        dict_data=known, max_window_size=max(window, 1 << _MIN_WINDOW_LOG), format=zstandard.FORMAT_ZSTD1_MAGICLESS
    )
    reader = decompressor.stream_reader(io.BytesIO(body), read_across_frames=False)
    left = length
    try:
        while left:
            chunk = reader.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise DeltaError(f"zstd data ends {left:,} bytes early", op=part)
            left -= len(chunk)
            yield chunk
        if reader.read(1):
            raise DeltaError("zstd data goes on after its end", op=part)
    except zstandard.ZstdError as error:
        raise DeltaError(f"zstd data is damaged ({error})", op=part, remedy="fetch it again") from error


# ── LZMA ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _lzma(data: bytes, trial: tuple[int, int, int]) -> bytes:
    lc, lp, pb = trial
    log = _window_log(len(data))
    filters = [
        _lzma_filter(lc, lp, pb, log) | {"mode": lzma.MODE_NORMAL, "nice_len": 273, "mf": lzma.MF_BT4, "depth": 512}
    ]
    head = bytes([LZMA, lc + 9 * (lp + 5 * pb), log])
    return head + lzma.compress(data, format=lzma.FORMAT_RAW, filters=filters)


def _lzma_filter(lc: int, lp: int, pb: int, log: int) -> dict[str, Any]:
    return {"id": lzma.FILTER_LZMA1, "lc": lc, "lp": lp, "pb": pb, "dict_size": 1 << log}


def _unlzma(body: bytes, length: int, part: str, memory_bytes: int) -> Iterator[bytes]:
    decompressor = _lzma_decompressor(body[:2], part, memory_bytes)
    left, feed = length, body[2:]
    try:
        while left:
            chunk = decompressor.decompress(feed, max_length=min(left, CHUNK_BYTES))
            if not chunk:
                raise DeltaError(f"LZMA data ends {left:,} bytes early", op=part)
            feed = b""
            left -= len(chunk)
            yield chunk
        if not decompressor.eof and decompressor.decompress(feed, max_length=1):
            raise DeltaError("LZMA data goes on after its end", op=part)
    except (lzma.LZMAError, EOFError) as error:
        raise DeltaError(f"LZMA data is damaged ({error})", op=part, remedy="fetch it again") from error


def _lzma_decompressor(head: bytes, part: str, memory_bytes: int) -> lzma.LZMADecompressor:
    if len(head) < 2:
        raise DeltaError("LZMA data has no properties", op=part)
    lc, rest = head[0] % 9, head[0] // 9
    lp, pb, log = rest % 5, rest // 5, head[1]
    if lc + lp > 4 or pb > 4 or not _MIN_WINDOW_LOG <= log <= MAX_WINDOW_LOG:
        raise DeltaError(f"LZMA properties {head.hex()} are out of range", op=part)
    if 1 << log > max(memory_bytes, 1 << _MIN_WINDOW_LOG):
        raise DeltaError(f"an LZMA dictionary of 2^{log} bytes is above the memory limit", op=part)
    return lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=[_lzma_filter(lc, lp, pb, log)])
