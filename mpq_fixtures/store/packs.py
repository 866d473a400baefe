"""Packs: tables of entries as bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import xxhash

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

SOURCE = "source"
KEY_BYTES, DIGEST_BYTES = 32, 16  # of a sample, and of what guards against accidents
_BOUND = b"scope"
_MOST_BYTES = 2**36
"""No pack is as large, but a damaged length may say so."""
PACK_BYTES = 16 * 2**20
"""Bytes of a table, uncompressed, beyond which it becomes several packs."""


def sample_key(source: str) -> bytes:
    """Return the 32 bytes that a sample goes by in the store: its source's 64 hex digits, or the SHA-256 of a source that is none."""
    if len(source) == 2 * KEY_BYTES:
        try:
            key = bytes.fromhex(source)
        except ValueError:
            key = b""
        if len(key) == KEY_BYTES:  # blanks between digits are taken, too
            return key
    return hashlib.sha256(source.encode(errors="surrogatepass")).digest()


def keys_for(sources: Iterable[str] | Iterable[bytes]) -> list[bytes]:
    """Return the keys of samples that are asked for by their sources, or by their keys."""
    return [source if isinstance(source, bytes) else sample_key(source) for source in sources]


def keys_of(table: pa.Table) -> list[bytes]:
    """Return the samples of a table, row by row."""
    keys: list[bytes] = table.column(SOURCE).to_pylist()
    return keys


def key_array(table: pa.Table) -> NDArray[np.bytes_]:
    """Return the samples of a table as an array, ``S32 [n]``, without an object for each."""
    import numpy as np

    kind = f"S{KEY_BYTES}"
    chunks = [chunk for chunk in table.column(SOURCE).chunks if len(chunk)]
    return np.concatenate([np.empty(0, kind), *(np.frombuffer(one.buffers()[1], kind)[one.offset :][: len(one)] for one in chunks)])


def without_doubles(table: pa.Table) -> pa.Table:
    """Return a table with the first row of each sample."""
    first: dict[bytes, int] = {}
    for place, key in enumerate(keys_of(table)):
        first.setdefault(key, place)
    return table if len(first) == table.num_rows else table.take(list(first.values()))


def to_bytes(table: pa.Table, bound: str = "") -> bytes:
    """Return a table as the length of an Arrow IPC stream, in 8 bytes, and the stream, in one zstd frame.

    ``bound`` names the scope that a pack of a store belongs to, and stands in it: in another it is none.

    A frame of zstd for each buffer, as Arrow itself has it, takes seven times as long for a batch of rows, and half as much room again.
    """
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    if bound:
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _BOUND: bound.encode()})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    stream = sink.getvalue()
    frame: bytes = pa.Codec("zstd", 1).compress(stream, asbytes=True)
    return len(stream).to_bytes(8, "little") + frame


def unpacked_size(data: bytes) -> int:
    """Return how many bytes a pack's table takes, from the pack or its first eight bytes."""
    return int.from_bytes(data[:8], "little")


def from_bytes(data: bytes, columns: Sequence[str] | None = None, bound: str = "", whole: bool = False) -> pa.Table:
    """Return the table of a pack, or its ``source`` and some of its columns.

    Raises `ValueError` for what is no pack, or one of another scope than ``bound``; older packs do not say whose they are. ``whole`` says
    that a digest was held against the bytes: else every cell is looked at, since damaged ones may lead anywhere in memory.
    """
    import pyarrow as pa

    if (size := unpacked_size(data)) > _MOST_BYTES:
        raise ValueError(f"a pack of {size} bytes is none")
    try:
        table = pa.ipc.open_stream(pa.Codec("zstd").decompress(memoryview(data)[8:], size)).read_all()
        if not whole:
            table.validate(full=True)
    except (OSError, MemoryError, pa.ArrowException) as error:
        raise ValueError(f"no pack: {error}") from error
    told = table.schema.metadata or {}
    if SOURCE not in table.column_names or (bound and told.get(_BOUND, bound.encode()) != bound.encode()):
        raise ValueError("a pack of something else")
    if _BOUND in told:
        table = table.replace_schema_metadata({name: value for name, value in told.items() if name != _BOUND})
    if columns is None:
        return table
    asked = {SOURCE, *columns}
    return table.select([name for name in table.column_names if name in asked])


def parsed(data: bytes, bound: str, columns: Sequence[str] | None = None) -> pa.Table | None:
    """Return the table of a pack whose digest is right, as `from_bytes` does; None where that raises."""
    try:
        return from_bytes(data, columns, bound, whole=True)
    except ValueError:  # pyarrow's own are among them
        return None


def digest_of(data: bytes) -> bytes:
    """Return ``DIGEST_BYTES`` bytes that change with the data; against accidents, not against forgers."""
    return xxhash.xxh3_128_digest(data)


def split(table: pa.Table, limit: int = PACK_BYTES) -> Iterator[pa.Table]:
    """Yield a table's rows in order, in tables of at most ``limit`` bytes or of one row."""
    rows = table.num_rows
    if rows > 1 and table.get_total_buffer_size() > limit and table.nbytes > limit:  # the first is quick, and at least as large
        yield from split(table.slice(0, rows // 2), limit)
        yield from split(table.slice(rows // 2), limit)
    elif rows:
        yield table
