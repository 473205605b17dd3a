"""Trained models on the terms of quantum hardware.

    python DEQ-Quantum/hardware.py evaluate --run runs/NAME --noise TEXT...    under exact noise, beside without
    python DEQ-Quantum/hardware.py sweep --runs runs/*/ --noise TEXT... --json FILE    many runs, means and a picture
    python DEQ-Quantum/hardware.py surrogate --run runs/NAME --shots 4096      its circuit measured once, then none
    python DEQ-Quantum/hardware.py cost --run runs/NAME                        circuits, shots, jobs, hours it takes
    python DEQ-Quantum/hardware.py export --run runs/NAME --format qasm3       its circuit and head for other programs
    python DEQ-Quantum/hardware.py run --run runs/NAME --device manila         from counts alone, on Aer's machine
    python DEQ-Quantum/hardware.py transpile --run runs/NAME --device manila   gates, depth, duration, success there
    python DEQ-Quantum/hardware.py devices                                     the machines that noise can name

`--help` after any of them teaches its flags. What they do lies in `deployment/`, what they build on in `hardware/`.
"""

from utils.start import start_command

if __name__ == "__main__":
    start_command()

from deployment.command_line import parse_command_line
from utils.command_line import one_line_ends, refuse_torchrun


def main(arguments: list[str] | None = None) -> None:
    """The command: what it cannot do ends it with one line."""
    refuse_torchrun("hardware.py")
    options = parse_command_line(arguments)
    from deployment.commands import COMMANDS, MENDABLE  # here: --help and a wrong flag do not wait for torch

    with one_line_ends(*MENDABLE, smaller="--max_images"):
        COMMANDS[options.command](options)


if __name__ == "__main__":
    main()
