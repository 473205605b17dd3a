"""Quantum data with known labels: ground states of spin rings, their phases as classes, for --dataset states:FILE.

    python DEQ-Quantum/make_states.py --chain cluster_ising --n_spins 8 --out data/cluster8.npz
    python DEQ-Quantum/train_qdeq.py --dataset states:data/cluster8.npz --num_classes 3 --n_wires 8

`qep/phases.py` says what they are, and `own_states.py` what such a file holds.
"""

from utils.start import start_command

if __name__ == "__main__":
    start_command()

import argparse

from utils.command_line import LARGEST_SEED, OneLineParser, integer, number, one_line_ends, path, refuse_torchrun

CHAINS = ("ising", "cluster_ising")  # those of qep.phases, which imports torch


def build_parser() -> argparse.ArgumentParser:
    """The parser; every setting has a default but for the file."""
    parser = OneLineParser(prog="make_states.py", formatter_class=argparse.ArgumentDefaultsHelpFormatter,
                           description="Ground states of spin rings, labelled by phase.")  # fmt: skip
    parser.add_argument("--out", type=path, required=True, metavar="FILE", help="the .npz file that is written")
    parser.add_argument("--chain", choices=CHAINS, default=CHAINS[0], help="ising: ferromagnet and paramagnet; cluster_ising: "
                        "cluster state (SPT), antiferromagnet and paramagnet")  # fmt: skip
    parser.add_argument("--n_spins", type=integer(4, 12, even=True), default=8, metavar="N", help="of the ring, even, 4 to 12")
    parser.add_argument("--n_train", type=integer(5, 100_000), default=300, metavar="N", help="states to train and validate on")
    parser.add_argument("--n_test", type=integer(3, 100_000), default=300, metavar="N", help="states to test on")
    parser.add_argument("--margin", type=number(0, 0.9), default=0.05, metavar="X", help="least distance from a transition")
    parser.add_argument("--seed", type=integer(0, LARGEST_SEED), default=1111, metavar="N", help="of the couplings")
    return parser


def parse_command_line(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read a command line; ends the program with one line on stderr if it cannot work."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.out.suffix != ".npz":
        parser.error(f"--out must end with .npz, got {options.out}")
    return options


def main(arguments: list[str] | None = None) -> None:
    """The command: what it cannot do ends it with one line."""
    refuse_torchrun("make_states.py")
    options = parse_command_line(arguments)
    import numpy as np  # here: --help and a wrong flag do not wait for it

    from qep.ground_states import GroundStateError
    from qep.phases import labelled_states
    from utils.files import atomic_write

    with one_line_ends(GroundStateError, OSError, smaller="--n_spins, --n_train or --n_test"):
        o = options
        arrays = labelled_states(o.chain, o.n_spins, o.n_train, o.n_test, o.margin, o.seed)
        o.out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(o.out) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
        n_classes = len(set(arrays["train_labels"].tolist()))
        print(f"{o.out}: {o.n_train} + {o.n_test} states of {o.n_spins} spins; train with --dataset states:{o.out} "
              f"--num_classes {n_classes} --n_wires {o.n_spins}")  # fmt: skip


if __name__ == "__main__":
    main()
