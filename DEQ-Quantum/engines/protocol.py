"""What a layer asks of an engine, and how an engine refuses a circuit.

An engine compiles its circuit once for given parameters, under autograd; the compiled circuit then gives readouts of any
number of batches. What can be had in closed form besides is offered as a method, and is None where it is not.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor, nn

from circuits.circuit import Circuit

COLUMNS_REMEDY = "use --shard batch, or --engine compiled with amplitude encoding"


class UnsupportedCircuit(ValueError):
    """A circuit that an engine cannot do: one line with the part, and an engine that can."""


class Lift(Protocol):
    """The linear map E from readouts to the state z = E r, as `models.lift` has it.

    Attributes:
        width: numbers in z.
    """

    width: int

    def __call__(self, r: Tensor) -> Tensor:
        """E r: (..., K) to (..., D)."""

    def transpose(self, values: Tensor, dim: int = -1) -> Tensor:
        """E^T along a dimension of length D, which becomes K."""

    def gram(self, r: Tensor) -> Tensor:
        """E^T E r: (..., K) to itself."""


class Team(Protocol):
    """Processes that share out an engine's work, as `runs.ranks` has them; all of them make the same calls.

    Attributes:
        rank: this process's number.
        size: how many there are.
    """

    rank: int
    size: int

    def bounds(self, n: int) -> list[int]:
        """Where each process's part of n begins, and n: (size + 1,)."""

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes, differentiable."""

    def gather_columns(self, own: Tensor, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
        """(rows, ..., own columns) to (own rows, ..., columns), with `bounds` of both, differentiable."""


class ReadoutMap(ABC):
    """h(r) = readouts at x + E r, for one batch x: (B, K) to itself.

    Attributes:
        jacobian: r -> dh_k/dr_j (B, K, K), exact; None where it is not offered.
        value_and_jacobian: r -> h(r) and that, where one pass has both cheaper; else None.
        vjp: (r, w) -> w^T (readouts' slope in v) at v = x + E r, (B, K) twice to (B, D), differentiable in all that h
            closes over; None where it is not offered.
        measured_again: r -> h(r) where h is measured and every call has an error of its own: a residual is told by what no
            solver has chosen among. None where h(r) is always the same.
        noise: (r, h(r)) -> (B,), how wrong h(r) is then, sqrt(E ||error||^2), as `deq.solve` asks it; None where it is exact.
    """

    jacobian: Callable[[Tensor], Tensor] | None = None
    measured_again: Callable[[Tensor], Tensor] | None = None
    noise: Callable[[Tensor, Tensor], Tensor] | None = None
    value_and_jacobian: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    vjp: Callable[[Tensor, Tensor], Tensor] | None = None

    @abstractmethod
    def __call__(self, r: Tensor) -> Tensor:
        """(B, K) to (B, K)."""


class CompiledCircuit(ABC):
    """A circuit at given parameters.

    Attributes:
        vjp: (v, w) -> w^T dr/dv, (B, n_inputs) and (B, K) to (B, n_inputs), differentiable; None: only by autograd.
        along: (x, E) -> the readouts as a function of r alone, v = x + E r, where there is a closed form cheaper than
            `readouts`; it, or what it returns, is None where there is not.
        lifted: E -> a circuit whose readouts are E r, which costs less where these are fewer; it, or what it returns, is
            None where it does not.
        for_many: E -> a circuit whose readouts are E r and that has `jacobian`: dear to make, it pays where many samples need
            many products with theirs. It, or what it returns, is None where there is no such.
        jacobian: v -> dr/dv, (B, n_inputs) to (B, K, n_inputs); None: only by autograd.
        noise: readouts that are counted (B, K) -> how wrong they are, (B,), as above; None where they are exact.
    """

    vjp: Callable[[Tensor, Tensor], Tensor] | None = None
    along: Callable[[Tensor, Lift], ReadoutMap | None] | None = None
    lifted: "Callable[[Lift], CompiledCircuit | None] | None" = None
    for_many: "Callable[[Lift], CompiledCircuit | None] | None" = None
    jacobian: Callable[[Tensor], Tensor] | None = None
    noise: Callable[[Tensor], Tensor] | None = None

    @abstractmethod
    def readouts(self, v: Tensor) -> Tensor:
        """(B, n_inputs) inputs to (B, K) expectation values; dtype and device follow the inputs."""


class Engine(nn.Module, ABC):
    """Evaluates one circuit.

    Args:
        circuit: what to evaluate, as data.

    Raises:
        UnsupportedCircuit: a part that this engine cannot do.

    Attributes:
        compile_several: (S, n_parameters) -> the circuit at S parameters side by side, under autograd: a batch is S equally
            long runs of samples. None where one after another costs no more.
    """

    compile_several: Callable[[Tensor], CompiledCircuit] | None = None

    def __init__(self, circuit: Circuit):
        super().__init__()
        self.circuit = circuit

    @abstractmethod
    def compile(self, theta: Tensor) -> CompiledCircuit:
        """The circuit at the parameters theta (n_parameters,), under autograd."""

    def share_columns(self, team: Team) -> None:
        """From now on compile the circuit together with the other processes of a team.

        Raises:
            UnsupportedCircuit: it is not compiled by sending columns through it.
        """
        raise UnsupportedCircuit(f"{type(self).__name__} sends no columns through the circuit; {COLUMNS_REMEDY}")
