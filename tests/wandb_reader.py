"""Reads back what a run logged to Weights & Biases offline, from its `run-*.wandb` files (see runs/wandb_files.py)."""

import json
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

from runs.wandb_files import records


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
        for content, _ in records(file.read_bytes()):
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
