"""Regenerate the tables and figures of the QDEQ paper, and of quantum equilibrium propagation, from real runs.

    python DEQ-Quantum/reproduce.py table1|table2|table3|table4|tables     run what is not finished, show the table
    python DEQ-Quantum/reproduce.py table2 --report                        run nothing, write the table
    python DEQ-Quantum/reproduce.py table5                                 search hyper-parameters
    python DEQ-Quantum/reproduce.py table6|table7|table8|table9            readouts, when an equilibrium pays, size, solvers
    python DEQ-Quantum/reproduce.py sweep --grid lr=0.01,0.05 --seeds 0 1 -- FLAGS     any flags of train_qdeq.py
    python DEQ-Quantum/reproduce.py theory                                 check the theory
    python DEQ-Quantum/reproduce.py hardware                               the study of noise, shots and mitigation
    python DEQ-Quantum/reproduce.py figures                                draw the figures
    python DEQ-Quantum/reproduce.py report --html                          everything anew, and as one page

    python DEQ-Quantum/reproduce.py table FILES                            a table of any runs
    python DEQ-Quantum/reproduce.py run RUN | circuit | overview           one picture: a run's curves, ...
    python DEQ-Quantum/reproduce.py dashboard                              the layout of its runs in wandb
    python DEQ-Quantum/reproduce.py qep error|time|table|figures           studies of QEP, its tables and figures

`--help` after any of them teaches its flags. What each command does lies in `reproduction/`.
"""

from utils.start import start_command

if __name__ == "__main__":
    start_command()

import logging
import sys

from reproduction.blame import flag_of_a_file
from reproduction.checks import run_theory
from reproduction.command_line import parse_command_line
from reproduction.drawing import draw_circuit, draw_figures, draw_overview, draw_run
from reproduction.qep_studies import run_qep
from reproduction.report import write_report
from reproduction.rows import TABLES
from reproduction.run_hardware import run_hardware
from reproduction.run_searches import run_searches
from reproduction.run_sweep import run_sweep
from reproduction.run_table import show_table
from reproduction.run_tables import run_tables
from reproduction.study_rows import STUDIES
from reproduction.workspace import make_dashboard
from runs.settings import SettingsError
from utils.command_line import one_line_ends, refuse_torchrun

COMMANDS = {
    **dict.fromkeys((*TABLES, *STUDIES), run_tables),
    "tables": run_tables,
    "table5": run_searches,
    "sweep": run_sweep,
    "figures": draw_figures,
    "report": write_report,
    "theory": run_theory,
    "hardware": run_hardware,
    "table": show_table,
    "run": draw_run,
    "circuit": draw_circuit,
    "overview": draw_overview,
    "dashboard": make_dashboard,
    "qep": run_qep,
}
SMALLER = {"qep": "--n_spins, --spins or --shots", "circuit": "--n_wires", "theory": "--dataset digits"}


def main(arguments: list[str] | None = None) -> None:
    """The command: what it cannot do ends it with one line."""
    refuse_torchrun("reproduce.py")
    options = parse_command_line(arguments)
    logging.raiseExceptions = False  # a line that cannot be written ends nothing
    log = logging.getLogger("qdeq")
    log.setLevel(logging.INFO)
    log.addHandler(logging.StreamHandler(sys.stdout))
    stopped = "stopped; what is done is kept, the same command resumes"
    smaller = SMALLER.get(options.command, "fewer --jobs")
    with one_line_ends(SettingsError, OSError, smaller=smaller, stopped=stopped), flag_of_a_file(options):
        COMMANDS[options.command](options)


if __name__ == "__main__":
    main()
