"""How large gradients are where training begins: their variance over initial models (barren plateaus).

McClean et al. (arXiv 1803.11173): where the circuit on both sides of a parameter is as random as a two-design, the
variance of an expectation value's slope is of the order of 2^-n_wires. Cerezo et al. (arXiv 2001.00550): local
observables of shallow circuits escape that. Here the slopes of one layer's readouts, and of the loss in training.

    circuit = build_circuit(10, n_random_operations=800)
    x, labels = first_test_images("mnist", 10, data_dir)
    gradient_variance(circuit, x, labels, n_draws=16)
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from circuits.circuit import Circuit
from data_files import load_images
from deq import ConvergenceWarning
from engines import make_engine
from engines.adjoint import parameter_slopes
from features import pool_images
from models.depth import Depth, Equilibrium, Stack
from models.qdeq_model import QDEQModel
from models.quantum_layer import QuantumLayer

DEPTHS: dict[str, Depth] = {"direct_1": Stack(1), "implicit": Equilibrium()}
N_IMAGES, N_APART = 64, 8
SEEN = 1e-6  # of the largest variance of a parameter: what lies below is round-off


def gradient_variance(
    circuit: Circuit,
    x: Tensor,
    labels: Tensor,
    n_classes: int = 10,
    n_draws: int = 16,
    n_loss_draws: int | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Variances over draws of the initial parameters, mean over the trained parameters theta_p.

    Draw s is the model with which train_qdeq.py --seed (seed + s) begins: theta uniform in [-pi, pi) and the head as
    torch has it, no dropout. The circuit's structure is the given one in every draw: the paper's random operations are
    drawn once, by a seed of their own that training never changes (`build_circuit(..., seed=1111)`); call again for
    others.

    Args:
        circuit: what `build_circuit` makes of n_wires, n_random_operations, n_blocks, ansatz, encoding, readout.
        x: (B, n_features) images as features; none of them zero under amplitude encoding.
        labels: (B,) from 0.
        n_classes: of the head.
        n_draws: from 2, of one layer's slopes.
        n_loss_draws: from 2, of the loss's gradient, which takes longer where wires and operations are many; 0: it is
            left out; None: as many as n_draws.
        seed: of the first draw.

    Returns:
        Numbers by name. For each of four quantities Q
            Q            the variance over draws, unbiased, then the mean over parameters and images
            Q_error      its standard error, from how the draws differ
            Q_median     of the parameters' variances, each a mean over images
            Q_largest    of the same
            Q_share      of the parameters that Q depends on at all (variance above a millionth of the largest)
        where Q is
            first_readout   d r_0 / d theta_p of one layer at z = 0, for each of the first 8 images apart
            mean_readout    the same of the mean over readouts, (1/K) sum_k r_k
            direct_1        d L / d theta_p of DIRECT-1: L is the cross-entropy, mean over all images
            implicit        of IMPLICIT, at the paper's solver settings; `implicit_converged` is the share of solves
                            that met their tolerance
        The standard deviation of a slope is the square root. A mean over all parameters counts those that Q does not
        depend on: divide by Q_share for the others. `two_designs` is what `first_readout` would be for a Pauli string
        between two-designs, 4^n / (2 (2^n + 1) (4^n - 1)), about 2^-(n + 1); slopes of the mean over K readouts of
        strings would have 1/K of it. Besides the counts n_wires, n_parameters, n_readouts, n_images, n_apart, n_draws,
        n_loss_draws.

    Raises:
        ValueError: fewer than two draws.
        engines.protocol.UnsupportedCircuit: the loss is asked for, of a circuit that the compiled engine cannot do.
    """
    n_loss_draws = n_draws if n_loss_draws is None else n_loss_draws
    if n_draws < 2 or n_loss_draws == 1 or n_loss_draws < 0:
        raise ValueError(f"a variance takes two draws or more, got n_draws {n_draws} and n_loss_draws {n_loss_draws}")
    x, trained = x.float(), list(circuit.trained)
    engine = make_engine("compiled" if n_loss_draws else "statevector", circuit)
    slopes: dict[str, list[Tensor]] = {name: [] for name in ("first_readout", "mean_readout")}
    gradients: dict[str, list[Tensor]] = {name: [] for name in DEPTHS if n_loss_draws}
    converged = []
    for draw in range(max(n_draws, n_loss_draws)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + draw)
            model = QDEQModel(QuantumLayer(circuit, engine), n_classes).eval()
        if draw < n_draws:
            found = readout_slopes(circuit, model.layer.full_theta(), x[:N_APART])[..., trained]
            for name, of_readout in zip(slopes, found):
                slopes[name].append(of_readout)
        if draw < n_loss_draws:
            found, share = _loss_gradients(model, x, labels)
            converged.append(share)
            for name, of_loss in found.items():
                gradients[name].append(of_loss)
    numbers = {
        "n_wires": circuit.n_wires, "n_parameters": len(trained), "n_readouts": circuit.n_readouts, "n_images": len(x),
        "n_apart": min(N_APART, len(x)), "n_draws": n_draws, "n_loss_draws": n_loss_draws,
        "two_designs": between_two_designs(circuit.n_wires),
    }  # fmt: skip
    for name, drawn in (slopes | gradients).items():
        numbers |= _statistics(name, torch.stack(drawn).double())
    return numbers | ({"implicit_converged": sum(converged) / len(converged)} if converged else {})


def readout_slopes(circuit: Circuit, theta: Tensor, x: Tensor) -> Tensor:
    """Slopes in all parameters of one layer's first readout and of the mean over its readouts, at z = 0: (2, B, P).

    Args:
        circuit: any.
        theta: (P,).
        x: (B, n_features).
    """
    v = x.new_zeros(len(x), circuit.n_inputs)
    v[:, : circuit.n_features] = x
    weights = x.new_full((2, circuit.n_readouts), 1 / circuit.n_readouts).to(theta.dtype)
    weights[0] = torch.eye(1, circuit.n_readouts)
    return parameter_slopes(circuit, theta.detach(), v, weights)


def between_two_designs(n_wires: int) -> float:
    """Variance of d<P>/dt of a Pauli string P, where exp(-i t G / 2), G a Pauli string too, stands between two-designs.

    With d = 2^n, A = U^+ P U behind the gate and C = i [G, A] / 2: on average <C>^2 is tr C^2 / (d (d + 1)) over the
    states before the gate, tr C^2 = (d - tr GAGA) / 2, and tr GAGA = -d / (d^2 - 1) over the circuits behind it.
    """
    d = 2**n_wires
    return d**2 / (2 * (d + 1) * (d**2 - 1))


def first_test_images(
    dataset: str, n_wires: int, data_dir: str | Path, n_images: int = N_IMAGES, classes: Sequence[int] = range(10)
) -> tuple[Tensor, Tensor]:
    """The first test images of some classes as pooled features, (n_images, n_wires^2), and their labels from 0.

    Raises:
        data_files.DataError: no data.
    """
    images = load_images(dataset, data_dir)
    labels = torch.from_numpy(images["test_labels"]).long()
    rows = torch.isin(labels, torch.tensor(classes)).nonzero().flatten()[:n_images]
    positions = torch.searchsorted(torch.tensor(classes), labels[rows])
    return pool_images(images["test_images"][rows.numpy()], n_wires), positions


def _loss_gradients(model: QDEQModel, x: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], float]:
    """The loss's gradient in theta by depth, (P,) each, and the share of images whose equilibrium was found."""
    compiled, found, share = model.layer.compile(), {}, 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the share says so
        for name, depth in DEPTHS.items():
            p = model(x, depth, compiled)
            loss = cross_entropy(p.logits, labels)
            (found[name],) = torch.autograd.grad(loss, model.layer.theta, retain_graph=True)
            if p.solver is not None:
                share = p.solver.converged.double().mean().item()
    return found, share


def _statistics(name: str, drawn: Tensor) -> dict[str, float]:
    """Of slopes (S, ..., P) in S draws, as `gradient_variance` names them."""
    n_draws = len(drawn)
    squares = (drawn - drawn.mean(0)).square() * n_draws / (n_draws - 1)
    of_parameters = squares.mean(0).flatten(0, -2).mean(0) if drawn.dim() > 2 else squares.mean(0)
    of_draws = squares.flatten(1).mean(1)
    largest = of_parameters.max()
    return {
        name: of_parameters.mean().item(),
        f"{name}_error": (of_draws.std() / n_draws**0.5).item(),
        f"{name}_median": of_parameters.median().item(),
        f"{name}_largest": largest.item(),
        f"{name}_share": (of_parameters > SEEN * largest).double().mean().item(),
    }
