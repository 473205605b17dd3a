"""How fast, how large, and whether equal: the compiled engine against TorchQuantum.

    python DEQ-Quantum/benchmark.py step [--json FILE]     one training step, and one call of f (PennyLane's too)
    python DEQ-Quantum/benchmark.py solve                  the forward solve alone, every solver
    python DEQ-Quantum/benchmark.py scaling                seconds and memory against wires and operations
    python DEQ-Quantum/benchmark.py memory                 memory against operations
    python DEQ-Quantum/benchmark.py peers                  deq beside torchdeq, jaxopt, optimistix
    python DEQ-Quantum/benchmark.py ranks                  one training step by one process and by several
    python DEQ-Quantum/benchmark.py seeds                  one training step of one run and of several side by side

`--help` after any of them teaches its flags. Everything is measured in turn in one process; see benchmarks/timing.py.
"""

from utils.start import start_command

if __name__ == "__main__":
    start_command()

import os

from benchmarks.command_line import parse_command_line
from runs.settings import SettingsError
from utils.command_line import one_line_ends, refuse_torchrun
from utils.files import write_json


def main(arguments: list[str] | None = None) -> int:
    """The command: measures, shows, saves.

    Returns:
        The exit status; 1 where two results that must be equal are not.
    """
    refuse_torchrun("benchmark.py")
    options = parse_command_line(arguments)
    # the profiler's library announces itself on stderr unless it is told before it is loaded
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from benchmarks import report  # here: --help and a wrong flag do not wait for torch
    from benchmarks.measurements import MEASUREMENTS
    from benchmarks.record import Record

    interrupted = False
    smaller = "--batch_size, --n_wires, --wires, --operations or --max_steps, as far as it has them"
    with one_line_ends(SettingsError, ValueError, OSError, smaller=smaller):
        record = Record(options)
        try:
            MEASUREMENTS[options.command](record)
            record.content["complete"] = True
        except KeyboardInterrupt:
            interrupted = True
        try:
            if options.json is not None:
                write_json(options.json, record.content)
        finally:
            print(report.text(record.content))  # last: it fails where nobody reads
    if interrupted:
        return 130
    rows = record.content.get("equality", []) + record.content.get("one_f_equality", [])
    return 0 if all(row["equal"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
