"""Reads back what a run logged to Weights & Biases offline: wandb has no reader of its `run-*.wandb` files.

Such a file is a 7-byte header (":W&B", magic, version), then the log format of LevelDB: blocks of 32 KiB, the
header within the first; in them chunks of CRC-32 (4 bytes), length (2), type (1) and content. A chunk is a
whole record (type 1) or its first, a middle or its last part (2, 3, 4); a record is a protobuf message.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, CHUNK_HEADER = 32768, struct.Struct("<IHB")
WHOLE, FIRST, LAST = 1, 2, 4


def read_offline_run(run_dir: Path) -> tuple[dict, list[dict], dict, list[str]]:
    """What an offline run holds, without wandb's own entries, whose names start with "_".

    Args:
        run_dir: a run folder, or one offline run in its wandb/. A run that was stopped and continued has an
            offline run for each part: their history is joined in order, later config, summary and tags hold.

    Returns:
        Config, history (one dict per logged event), summary, tags.
    """
    own, parts = (Path(run_dir).glob(p) for p in ("run-*.wandb", "wandb/offline-run-*/run-*.wandb"))
    files = sorted(own) or sorted(parts)
    if not files:
        raise FileNotFoundError(f"no offline wandb run in {run_dir}")
    config, history, summary, tags = {}, [], {}, []
    for file in files:
        for content in _records(file.read_bytes()):
            record = Record.FromString(content)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                tags = list(record.run.tags)
                _update(config, record.run.config.update)
            elif kind == "config":
                _update(config, record.config.update)
            elif kind == "summary":
                _update(summary, record.summary.update)
            elif kind == "history":
                history.append(_update({}, record.history.item))
    return config, history, summary, tags


def _records(data: bytes) -> Iterator[bytes]:
    """The contents of the whole records; one that a kill cut short is left out."""
    if data[:4] != b":W&B":
        raise ValueError("not a wandb file")
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
            yield record


def _update(values: dict, items) -> dict:
    """Set key = value_json, or nested_key = value_json as a path into nested dicts."""
    for item in items:
        *path, name = item.nested_key or [item.key]
        if (path or [name])[0].startswith("_"):
            continue
        inner = values
        for key in path:
            if not isinstance(inner.get(key), dict):
                inner[key] = {}
            inner = inner[key]
        inner[name] = json.loads(item.value_json)
    return values
