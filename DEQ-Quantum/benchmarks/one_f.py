"""One call of f, forward and backward, by every simulator that is installed, on the same circuit and batch."""

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

from benchmarks.equality import F_TOLERANCE, difference, verdict
from benchmarks.step import Problem
from utils import seeds

FORWARD, BACKWARD = "f forward", "f forward+backward"
BOUND = f"{FORWARD}, once bound"  # what the solver sees of the compiled engine
FROM_SLOW_TO_FAST = ("pennylane", "torchquantum", "compiled")


class OneF:
    """f(z; x) at fixed parameters by one simulator.

    Args:
        f: (z, x) to f(z; x), each (B, n_wires^2), simulating the circuit at every call.
        theta: (n_parameters,), what f depends on besides.
        problem: circuit and batch.
    """

    def __init__(self, f: Callable[[Tensor, Tensor], Tensor], theta: Tensor, problem: Problem):
        self.f, self.theta = f, theta
        self.x, _ = problem.batch
        draw = seeds.generator(problem.seed, "benchmark f", 0)
        z, self.weights = (2 * torch.rand(2, *self.x.shape, generator=draw) - 1).to(self.x)
        self.z = z.requires_grad_()

    @torch.no_grad()
    def forward(self) -> Tensor:
        """f(z; x)."""
        return self.f(self.z, self.x)

    def backward(self) -> tuple[Tensor, Tensor]:
        """The gradients of a weighted sum of f's values in z and theta."""
        return torch.autograd.grad(self.f(self.z, self.x), (self.z, self.theta), self.weights)


def simulators(engines: list[str], problem: Problem, pennylane_layer: type | None) -> dict[str, OneF]:
    """f by every simulator, by name.

    Args:
        engines: of `QuantumLayer`.
        problem: circuit and batch.
        pennylane_layer: `PennyLaneLayer`, or None where PennyLane is not installed.
    """
    found = {}
    for engine in engines:
        layer = problem.layer(engine)
        found[engine] = OneF(lambda z, x, layer=layer: layer.bind(x)(z), layer.theta, problem)
    if pennylane_layer is not None:
        layer = problem.layer("compiled")
        found["pennylane"] = OneF(pennylane_layer(layer.circuit, layer.theta), layer.theta, problem)
    return found


def calls(found: dict[str, OneF], problem: Problem) -> dict[str, Callable[[], object]]:
    """What to time: f forward, with what the solver sees of the compiled engine besides, and f with its backward."""
    timed = {f"{name}, {FORWARD}": f.forward for name, f in found.items()}
    with torch.no_grad():
        bound = problem.layer("compiled").bind(problem.batch[0])
    z = found["compiled"].z.detach()
    timed[f"compiled, {BOUND}"] = torch.no_grad()(lambda: bound(z))
    return timed | {f"{name}, {BACKWARD}": f.backward for name, f in found.items()}


def pairs(found: dict[str, OneF]) -> set[tuple[str, str]]:
    """Labels of `calls` that are compared, (slow, fast): the same work; a forward pass also with f once bound."""
    compared = set()
    for slow, fast in combinations([name for name in FROM_SLOW_TO_FAST if name in found], 2):
        compared |= {(f"{slow}, {work}", f"{fast}, {work}") for work in (FORWARD, BACKWARD)}
        if fast == "compiled":
            compared.add((f"{slow}, {FORWARD}", f"{fast}, {BOUND}"))
    return compared


def compare(found: dict[str, OneF]) -> list[dict]:
    """Value and gradient of every simulator against those of the first."""
    reference, *others = found
    value_0, gradients_0 = found[reference].forward(), found[reference].backward()
    rows = []
    for name in others:
        gradients = found[name].backward()
        differences = {
            "value": difference(found[name].forward(), value_0),
            "gradient": max(difference(g, g_0) for g, g_0 in zip(gradients, gradients_0)),
        }
        rows.append(verdict(name, reference, differences, dict.fromkeys(differences, F_TOLERANCE)))
    return rows
