"""What a machine runs for the states of images: none of an image whose solve has stopped."""

from collections.abc import Sequence
from statistics import mean

from hardware.cost import CircuitCost, Counter, count_layers, count_solves
from models.depth import Depth, Stack


def count_states(
    counter: Counter, cost: CircuitCost, depth: Depth, steps: Sequence[int], shots: int = 0, n_jacobians: int = 0,
    purpose: str = "solve",
) -> None:  # fmt: skip
    """Count what brings images to their states, all of them in each round.

    Args:
        counter: what counts.
        cost: of the circuit.
        depth: equilibrium, or stack of layers.
        steps: that each image's solve took; of a stack only their number matters.
        shots: of each circuit; 0: exact values.
        n_jacobians: see `hardware.cost.count_solves`.
        purpose: of the values.
    """
    if isinstance(depth, Stack):
        count_layers(counter, cost, depth.n_layers, len(steps), shots, purpose=purpose)
    else:
        count_solves(counter, cost, steps, shots, n_jacobians, purpose)


def mean_of(counters: Sequence[Counter]) -> dict[str, float]:
    """Of what several have counted, by the names of `Counter.describe`."""
    described = [counter.describe() for counter in counters]
    names = dict.fromkeys(name for of_one in described for name in of_one)
    return {name: mean(of_one.get(name, 0) for of_one in described) for name in names}
