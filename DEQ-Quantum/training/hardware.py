"""A model on the terms of a quantum computer: its engine under noise, read by counting, and what that costs.

With noise alone the engine is exact and differentiable, so a training step is as without. With shots every value is
counted, and derivatives are those of the exact (noisy) expectation values, or measured as well (--gradient shift). Circuits
for both are counted as a chip needs them: a sample whose solve has stopped is not run again, though the simulation
evaluates the whole batch.
"""

from circuits.circuit import Circuit
from circuits.encodings import AmplitudeEncoding
from engines.compiled import CompiledEngine
from engines.protocol import Engine
from hardware.cost import CircuitCost, Counter, count_implicit_gradient, count_layers, count_solves
from hardware.counted import CountedEngine
from hardware.engine import NoisyEngine
from hardware.shift_engine import ShiftEngine
from hardware.shots import ShotEngine
from models.depth import Depth, Stack
from models.qdeq_model import EquilibriumClassifier, Prediction
from models.table import build_model
from runs.settings import SettingsError
from training.hardware_settings import JACOBIAN_FREE
from training.metrics import COSTS
from training.settings import Settings

MOST_BYTES = 2**30  # that a step keeps for the gradient of noisy observables
MOST_NUMBERS = 2**20  # of the noisy observables of all bit strings, which every step makes anew


def build_trained_model(settings: Settings) -> EquilibriumClassifier:
    """The classifier that settings describe, under their noise and with their shots.

    Raises:
        SettingsError: noise or shots of more wires than can be trained.
        hardware.noise.NoiseError, engines.protocol.UnsupportedCircuit: a circuit that cannot have them.
    """
    model = build_model(settings)
    if settings.on_hardware:
        model.layer.engine = _engine(settings, model.layer.circuit).to(model.layer.theta.dtype)
    return model


def _engine(s: Settings, circuit: Circuit) -> Engine:
    noise, of_encoding = s.noises()
    exact: Engine = NoisyEngine(circuit, noise, of_encoding) if s.has_noise else CompiledEngine(circuit)
    if isinstance(exact, NoisyEngine) and not s.by_shifts and (needed := bytes_of_gradient(exact)) > MOST_BYTES:
        raise SettingsError(
            f"--noise: a training step of {circuit.n_wires} wires needs {needed / 2**30:.0f} GiB for the gradient of noisy "
            f"observables, more than {MOST_BYTES / 2**30:g}: take fewer --n_wires, or train without and use hardware.py evaluate"
        )
    if not s.shots:
        return ShiftEngine(exact, jacobian_free=s.b_solver == JACOBIAN_FREE) if s.by_shifts else exact
    if s.has_noise and 8**circuit.n_wires > MOST_NUMBERS:
        raise SettingsError(
            f"--shots with noise: observables of all bit strings of {circuit.n_wires} wires would be made anew at every step: "
            "take fewer --n_wires, or no noise, or train without and use hardware.py evaluate"
        )
    counting = ShotEngine(circuit, s.shots, noise, of_encoding, s.seed)
    if s.by_shifts:
        return ShiftEngine(counting, jacobian_free=s.b_solver == JACOBIAN_FREE)
    return CountedEngine(counting, exact)


def bytes_of_gradient(engine: NoisyEngine) -> int:
    """What pulling back all observables in float32 keeps: before and after every gate on two wires."""
    readouts = engine.readouts
    n_joints = sum(len(template.joints) * len(members) for template, members in zip(readouts.templates, readouts.members))
    return 2 * 4 * n_joints * 4**readouts.n_wires


def counting_engine(model: EquilibriumClassifier) -> CountedEngine | ShiftEngine | None:
    """The model's engine where it counts; else None."""
    engine = getattr(model.layer, "engine", None)
    return engine if isinstance(engine, CountedEngine | ShiftEngine) and engine.shots else None


def described(cost: Counter | None) -> dict[str, int]:
    """A counter's numbers by what metrics.csv calls them, all that a classifier can have; {} for None."""
    return {} if cost is None else dict.fromkeys(COSTS, 0) | cost.describe()


def count_pass(
    counter: Counter, engine: CountedEngine | ShiftEngine, depth: Depth, p: Prediction, with_gradient: bool = False, with_jac_loss: bool = False
) -> None:
    """Count the circuits of one pass of a batch, and with gradient those of its derivatives.

    Of an equilibrium: every sample's steps and its start, and Jacobians that the solver has measured. The residual is
    measured anew at the end, one circuit an image, beside the derivatives; no training needs it.

    Args:
        counter: what counts.
        engine: the model's.
        depth, p: of the pass.
        with_gradient, with_jac_loss: as in training.
    """
    cost, n, shots = CircuitCost.of(engine.circuit), len(p.r), engine.shots
    if isinstance(depth, Stack):
        count_layers(counter, cost, depth.n_layers, n, shots, with_gradient)
    else:
        count_solves(counter, cost, p.solver.steps.tolist(), shots, p.solver.n_jacobians)
    has_gradient = False
    if with_gradient and not isinstance(depth, Stack):
        of_amplitudes = isinstance(engine.circuit.encoding, AmplitudeEncoding)
        jac_loss = "" if not with_jac_loss else "product" if of_amplitudes else "jacobian"
        solved = depth.backward.max_steps > 0  # else the gradient is Jacobian-free
        has_gradient = count_implicit_gradient(counter, cost, n, shots, solved, jac_loss)
    counter.count("residual", n * cost.value, n * cost.value * shots, rounds=0 if has_gradient else 1)
