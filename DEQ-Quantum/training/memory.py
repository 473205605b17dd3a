"""Whether a run can fit into memory, told before it is tried for hours."""

import torch

from runs.machine import free_bytes
from runs.settings import SettingsError
from training.settings import Settings

BYTES_OF_AN_AMPLITUDE = 8  # complex64


def refuse_what_cannot_fit(s: Settings, device: torch.device) -> None:
    """Refuse a run whose state vectors alone do not fit: the circuit's input, its output and a gradient at once.

    Raises:
        SettingsError: they take more memory than is free.
    """
    if s.encoding == "none":
        return
    # the compiled engine sends basis states through an amplitude circuit, not every sample
    once = s.encoding == "amplitude" and s.engine == "compiled"
    n_states = s.n_wires**2 if once else s.batch_size // s.batch_chunk
    needed, free = 3 * n_states * 2**s.n_wires * BYTES_OF_AN_AMPLITUDE, free_bytes(device)
    if needed > free:
        raise SettingsError(
            f"--n_wires {s.n_wires}: state vectors alone take {needed / 1e9:.0f} GB and {free / 1e9:.0f} GB are free; "
            "use fewer wires" + ("" if once else " or a smaller --batch_size")
        )
