"""Files packed with gzip: one file, one `.gz`. Unpacked with a bound, for a small file can hold gigabytes of zeros."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

SUFFIX = ".gz"
MOST_TIMES = 100  # as large as what is packed; text and weights shrink to a third at best


def pack(path: Path) -> Path:
    """Put path.gz in the place of `path`. The same bytes give the same bytes: no name and no time is in them."""
    packed = path.with_name(path.name + SUFFIX)
    packed.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()
    return packed


def unpack(path: Path, most: int | None = None) -> bytes:
    """What is in a packed file; ValueError where it is broken, or has more than `most` bytes (MOST_TIMES its own)."""
    most = most or MOST_TIMES * path.stat().st_size
    try:
        with gzip.open(path) as file:
            data = file.read(most + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path.name} does not unpack ({error})") from None
    if len(data) > most:
        raise ValueError(f"{path.name} unpacks to more than {most:,} bytes")
    return data
