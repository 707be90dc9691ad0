"""Tables that know when they are damaged: Parquet files in whose metadata stands a checksum of each column.

Parquet itself notices few of the bits that flip on a disk: three of four change a number of a score file and no error
tells. A column is checked when it is read, so that large ones may be left unread.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

KEY = b"checksums"


class DamagedError(ValueError):
    """A table holds something else than was written."""


def seal(table: pa.Table, metadata: Mapping[str, str]) -> pa.Table:
    """The table with this metadata, and checksums of it and of each column."""
    header = {key.encode(): value.encode() for key, value in metadata.items()}
    sums = {name: checksum(table[name]) for name in table.column_names}
    sums[""] = _header_sum(header, sums)
    return table.replace_schema_metadata({**header, KEY: json.dumps(sums).encode()})


def check(table: pa.Table, metadata: Mapping[bytes, bytes] | None) -> pa.Table:
    """Return the table as it is, some or all columns of one that `seal` gave.

    Parameters
    ----------
    table : Table
        What was read.
    metadata : mapping
        Of the file's schema.

    Raises
    ------
    DamagedError
        A value, a name or the metadata is not what was written, or there are no checksums.
    """
    header = {key: value for key, value in (metadata or {}).items() if key != KEY}
    try:
        sums = json.loads((metadata or {})[KEY])
        recorded = sums.pop("")
    except (KeyError, ValueError, AttributeError) as error:
        raise DamagedError("no checksums") from error
    if recorded != _header_sum(header, sums):
        raise DamagedError("metadata that do not match their checksum")
    for name in table.column_names:
        if sums.get(name) != checksum(table[name]):
            raise DamagedError(f"values of {name} that do not match their checksum")
    return table


def checksum(values: Any) -> str:
    """XXH3 (128 bits, hex) of an array's type and values, however they lie in memory."""
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    digest = xxhash.xxh3_128()
    _feed(digest, values)
    return digest.hexdigest()


def _feed(digest: xxhash.xxh3_128, values: pa.Array) -> None:
    digest.update(_bytes(values.is_null()))
    if pa.types.is_list(values.type):  # Parquet gives its elements another name
        digest.update(b"list")
        digest.update(_bytes(pc.fill_null(pc.list_value_length(values), 0)))
        _feed(digest, values.flatten())
        return
    digest.update(str(values.type).encode())
    if pa.types.is_string(values.type) or pa.types.is_binary(values.type):
        digest.update(_bytes(pc.fill_null(pc.binary_length(values), 0)))
        _, starts, data = values.buffers()
        if data is not None:
            first, last = np.frombuffer(starts, np.int32)[[values.offset, values.offset + len(values)]]
            digest.update(memoryview(data)[first:last])
    elif not pa.types.is_null(values.type):
        digest.update(_bytes(pc.fill_null(values, pa.scalar(0).cast(values.type))))


def _bytes(values: pa.Array) -> bytes:
    return values.to_numpy(zero_copy_only=False).tobytes()


def _header_sum(header: Mapping[bytes, bytes], sums: Mapping[str, str]) -> str:
    parts = [*(item for pair in sorted(header.items()) for item in pair), json.dumps(sums).encode()]
    return xxhash.xxh3_128(b"\0".join(parts)).hexdigest()
