"""What happens to samples without a single ground state, whose response to a nudge is not defined."""

from dataclasses import dataclass

import torch
from torch import Tensor

from qep.ground_states import DegenerateGroundStateError
from qep.states import State

ON_DEGENERATE = ("error", "skip")


@dataclass(frozen=True)
class DegeneracyCheck:
    """Finds the samples whose ground states are all usable.

    Attributes:
        on_degenerate: "error" refuses a batch with others, "skip" lets the caller leave them out.
    """

    on_degenerate: str = "error"

    def __post_init__(self):
        if self.on_degenerate not in ON_DEGENERATE:
            raise ValueError(f"on_degenerate is {self.on_degenerate!r}; choose one of {', '.join(ON_DEGENERATE)}")

    def __call__(self, *states: State) -> Tensor:
        """Which samples can be used, (B,).

        Args:
            states: of the same samples, free and nudged.

        Raises:
            DegenerateGroundStateError: not all of them, with "error".
        """
        used = torch.stack([state.usable for state in states]).all(0)
        if self.on_degenerate == "error" and not used.all():
            smallest = min(state.gap.min().item() for state in states)
            raise DegenerateGroundStateError(
                f"{int((~used).sum())} of {len(used)} samples have a (nearly) degenerate ground state: the gap is "
                f"{smallest:.1e}, below {states[0].gap_tol:g}; leave them out with --on_degenerate skip, lower "
                "--beta, or set --gap_tol"
            )
        return used
