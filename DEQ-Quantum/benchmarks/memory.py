"""Peak memory of a call: tensors that it holds at once, beyond those that were there before it.

That is tensor memory, not the process's: neither Python, nor the libraries' own buffers, nor the allocator's
unused blocks. On CUDA torch counts it. On the CPU it has no counter of the peak, so the profiler's record of every
allocation and release is added up in order of time.
"""

import gc
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

CPU_DEVICE_TYPE = 0


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Most bytes of tensors that `call` holds at one moment, beyond what was allocated before.

    What the call releases of the tensors that were there before does not count, on either kind of device.

    Args:
        call: what to measure, warmed up: what it keeps for ever is counted the first time.
        device: where its tensors are.
    """
    gc.collect()  # what others have left behind must not be released meanwhile
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    held = peak = 0
    for change in _cpu_allocations(call):
        held += change
        peak = max(peak, held)
    return peak


def _cpu_allocations(call: Callable[[], object]) -> list[int]:
    """Bytes of every allocation (positive) and release (negative) on the CPU, in order of time.

    The release of a tensor from before the call is not in the profiler's record.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    records = [e for e in events if e["name"] == "[memory]" and e["args"]["Device Type"] == CPU_DEVICE_TYPE]
    return [e["args"]["Bytes"] for e in sorted(records, key=lambda e: e["ts"])]
