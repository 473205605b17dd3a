"""A machine simulated by Qiskit Aer from the snapshot of its calibration, qubit by qubit, routed and scheduled.

The only module that imports Aer and the fake backends. A circuit is compiled for the machine once, with the encoding's
angles free, and bound per vector, so that noise does not depend on angles that happen to be special. Wire w is read
from classical bit w, wherever the compiler put it. Wires that wait are damped (scheduled as late as possible). Readout
errors are the two numbers of the calibration, which Qiskit's backends of version 2 average.
"""

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from circuits.circuit import Circuit
from circuits.encodings import AmplitudeEncoding
from engines.protocol import CompiledCircuit, Engine
from hardware.channels import NoiseError
from hardware.export import program_of, to_qiskit
from hardware.shots import counting_error
from hardware.snapshots import PACKAGE, snapshot_folder
from hardware.tree import Tree
from utils import seeds

NOT_GATES = ("delay", "barrier", "measure")


@dataclass(frozen=True)
class Machine:
    """A fake backend and its noise.

    Attributes:
        name: of the machine.
        calibrated, source: the day of the snapshot, and its package.
        backend: Qiskit's, of version 2.
        noise_model: Aer's.
    """

    name: str
    calibrated: str
    source: str
    backend: object
    noise_model: object

    def describe(self) -> dict:
        """Name, date and source, for results."""
        return {"device": self.name, "calibrated": self.calibrated, "source": self.source}


def machine(name: str) -> Machine:
    """The machine of that name in the installed snapshots.

    Raises:
        ImportError: Qiskit, Aer or the runtime is not installed.
        NoiseError: there is no snapshot.
    """
    with warnings.catch_warnings():  # the runtime's import announces what it will lose
        warnings.simplefilter("ignore")
        from qiskit_aer.noise import NoiseModel, ReadoutError
        from qiskit_ibm_runtime import fake_provider

    stem = f"Fake{name.capitalize()}"
    kind = getattr(fake_provider, f"{stem}V2", None) or getattr(fake_provider, stem, None)
    folder, release = snapshot_folder()
    if kind is None or not (folder / name).is_dir():
        raise NoiseError(f"--device {name}: qiskit-ibm-runtime {release} has no snapshot of it")
    backend = kind()
    noise_model = NoiseModel.from_backend(backend, readout_error=False)
    properties = json.loads((folder / name / f"props_{name}.json").read_text())
    for qubit, entries in enumerate(properties["qubits"]):
        one, zero = (
            next(entry["value"] for entry in entries if entry["name"] == wanted)
            for wanted in ("prob_meas1_prep0", "prob_meas0_prep1")
        )
        noise_model.add_readout_error(ReadoutError([[1 - one, one], [zero, 1 - zero]]), [qubit])
    day, source = properties["last_update_date"][:10], f"{PACKAGE} {release}, snapshot of {properties['backend_name']}"
    return Machine(name, day, source, backend, noise_model)


def transpiled(circuit, target: Machine, optimization_level: int, seed: int):
    """A QuantumCircuit for the machine, routed, in its gates and scheduled.

    Raises:
        NoiseError: it has more wires than the machine qubits.
    """
    from qiskit import transpile

    if circuit.num_qubits > target.backend.num_qubits:
        raise NoiseError(
            f"--device {target.name} has {target.backend.num_qubits} qubits, the circuit {circuit.num_qubits}"
        )
    return transpile(
        circuit, target.backend, optimization_level=optimization_level, seed_transpiler=seed, scheduling_method="alap"
    )


def noisy_gates(circuit, target: Machine) -> tuple[int, int]:
    """How many gates of a compiled circuit carry noise, and how many there are: Aer says nothing where none does."""
    names = [i.operation.name for i in circuit.data if i.operation.name not in NOT_GATES]
    return sum(name in target.noise_model.noise_instructions for name in names), len(names)


def cost_on(circuit, target: Machine) -> dict[str, float]:
    """Gates on two wires, depth, duration in us and estimated success of a compiled circuit.

    The success is the product of 1 - error over its gates and measurements: the chance that nothing goes wrong.
    """
    success = 1.0
    for instruction in circuit.data:
        qubits = tuple(circuit.find_bit(qubit).index for qubit in instruction.qubits)
        known = target.backend.target[instruction.operation.name] if instruction.operation.name != "barrier" else {}
        properties = known.get(qubits) if known else None
        success *= 1 - ((properties and properties.error) or 0.0)
    return {
        "two_qubit_gates": circuit.num_nonlocal_gates(),
        "depth": circuit.depth(lambda i: i.operation.name not in NOT_GATES),
        "duration_us": (circuit.duration or 0) * target.backend.dt * 1e6,
        "success": success,
    }


def median_costs(
    circuit, target: Machine, optimization_level: int, transpiler_seeds: Sequence[int]
) -> dict[str, float]:
    """Medians of `cost_on` over compilations with different seeds."""
    found = [cost_on(transpiled(circuit, target, optimization_level, seed), target) for seed in transpiler_seeds]
    return {name: median(costs[name] for costs in found) for name in found[0]}


class AerEngine(Engine):
    """Evaluates a circuit from counts on a simulated machine, noisy encoding and all.

    Args:
        circuit: with strings of Z as readout.
        target: the machine.
        shots: of each circuit.
        optimization_level: of the compilation, 0 to 3.
        seed: of the compilation, and with step and call of every draw.

    Attributes:
        step: see `shots.ShotEngine`.

    Raises:
        ValueError: no shots.
    """

    def __init__(self, circuit: Circuit, target: Machine, shots: int, optimization_level: int = 3, seed: int = 0):
        super().__init__(circuit)
        if shots < 1:
            raise ValueError(f"a circuit takes one shot or more, got {shots}")
        self.target, self.shots, self.optimization_level = target, shots, optimization_level
        self.seed, self.step = seed, 0

    def compile(self, theta: Tensor) -> "CompiledOnAer":
        """The circuit compiled for the machine at theta (n_parameters,)."""
        program = program_of(self.circuit, theta.tolist())
        template = transpiled(to_qiskit(program), self.target, self.optimization_level, self.seed)
        return CompiledOnAer(self, template, program.parameters)


class CompiledOnAer(CompiledCircuit):
    """Readouts counted by Aer, anew at every call.

    Args:
        engine: machine, shots, seed and step.
        template: compiled for the machine, with free angles.
        names: of the angles, in order.

    Attributes:
        calls, circuits: so far.
    """

    def __init__(self, engine: AerEngine, template, names: Sequence[str]):
        from qiskit_aer import AerSimulator

        self.engine, self.template, self.step = engine, template, engine.step
        self.calls = self.circuits = 0
        order = {name: k for k, name in enumerate(names)}
        self.parameters = [(parameter, order[parameter.name]) for parameter in template.parameters]
        encoding = engine.circuit.encoding
        amplitudes = isinstance(encoding, AmplitudeEncoding)
        self.angles = Tree(encoding.n_wires, encoding.n_inputs).angles if amplitudes else lambda v: v
        self.simulator = AerSimulator(method="density_matrix", noise_model=engine.target.noise_model)

    def noise(self, r: Tensor) -> Tensor:
        """How wrong counted readouts (B, K) are: (B,)."""
        return counting_error(r, self.engine.shots)

    @torch.no_grad()
    def readouts(self, v: Tensor) -> Tensor:
        """(B, n_inputs) to (B, K) means over the shots; a zero vector is run as |0...0>, one with a NaN reads NaN."""
        generator = seeds.generator(self.engine.seed, f"aer {self.calls}", self.step)
        draw = int(torch.randint(2**31, (), generator=generator))
        self.calls, self.circuits = self.calls + 1, self.circuits + len(v)
        failed = ~v.isfinite().all(1, keepdim=True)
        bound = [self._bound(angles) for angles in self.angles(torch.where(failed, 0.0, v.double())).tolist()]
        if not bound:
            return v.new_zeros(0, self.engine.circuit.n_readouts)
        with _in_this_process():
            counted = self.simulator.run(bound, shots=self.engine.shots, seed_simulator=draw).result().get_counts()
        supports = self.engine.circuit.readout.supports()
        rows = [_means(counts, supports) for counts in (counted if isinstance(counted, list) else [counted])]
        return torch.where(failed, torch.nan, torch.tensor(rows).to(v))

    def _bound(self, angles: Sequence[float]):
        return self.template.assign_parameters({parameter: angles[k] for parameter, k in self.parameters})


@contextmanager
def _in_this_process() -> Iterator[None]:
    """Keep Qiskit from starting processes for the noise of delays: with the pinned dill they cannot read their work."""
    before = os.environ.get("QISKIT_IN_PARALLEL")
    os.environ["QISKIT_IN_PARALLEL"] = "TRUE"
    try:
        yield
    finally:
        if before is None:
            del os.environ["QISKIT_IN_PARALLEL"]
        else:
            os.environ["QISKIT_IN_PARALLEL"] = before


def _means(counts: dict[str, int], supports: Sequence[Sequence[int]]) -> list[float]:
    """Of strings of Z with these supports; Qiskit prints bit 0 last."""
    shots = sum(counts.values())
    return [
        sum((-1) ** sum(bits[-1 - wire] == "1" for wire in support) * n for bits, n in counts.items()) / shots
        for support in supports
    ]
