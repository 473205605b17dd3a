"""What wandb has of a run on this machine's disk, which is all there is of it offline: wandb has no reader of its own.

<run>/wandb/*run-*/run-<id>.wandb, one for each part of a run that was stopped and resumed. Such a file is a 7-byte
header (":W&B", magic, version), then the log format of LevelDB: blocks of 32 KiB, the header within the first; in them
chunks of CRC-32 (4 bytes), length (2), type (1) and content. A chunk is a whole record (type 1) or its first, a middle or
its last part (2, 3, 4); a record is a protobuf message.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

BLOCK, CHUNK_HEADER = 32768, struct.Struct("<IHB")
WHOLE, FIRST, LAST = 1, 2, 4


def parts(run_dir: Path, run_id: str | None, mode: str) -> list[Path]:
    """The files of a run, oldest first; None: of the run that lies there, whatever its id."""
    prefix = "offline-run" if mode == "offline" else "run"
    return sorted(run_dir.glob(f"wandb/{prefix}-*/run-{run_id or '*'}.wandb"))


def records(data: bytes) -> Iterator[tuple[bytes, int]]:
    """The contents of the whole records, and where each ends; one that a kill cut short is left out.

    Raises:
        ValueError: no wandb file, or a wrong checksum.
    """
    if data[:4] != b":W&B":
        raise ValueError("no wandb file")
    position, record = 7, b""
    while position + CHUNK_HEADER.size <= len(data):
        left_in_block = BLOCK - position % BLOCK
        if left_in_block < CHUNK_HEADER.size:
            position += left_in_block
            continue
        checksum, length, kind = CHUNK_HEADER.unpack_from(data, position)
        position += CHUNK_HEADER.size + length
        chunk = data[position - length : position]
        if len(chunk) < length:
            return
        if zlib.crc32(bytes([kind]) + chunk) != checksum:
            raise ValueError(f"damaged wandb file: wrong checksum before byte {position}")
        record = chunk if kind in (WHOLE, FIRST) else record + chunk
        if kind in (WHOLE, LAST):
            yield record, position


def mend(path: Path) -> list[bytes]:
    """The records of a file, which then ends with the last whole one: `wandb sync` stops at any other.

    A file without any is set aside.
    """
    contents, end = [], 0
    try:
        for content, end in records(path.read_bytes()):
            contents.append(content)
    except ValueError:  # what follows the damage cannot be read by wandb either
        pass
    if not contents:
        path.rename(path.with_suffix(".damaged"))
    elif end < path.stat().st_size:
        os.truncate(path, end)
    return contents
