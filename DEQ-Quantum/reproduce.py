"""Regenerate the tables and figures of the QDEQ paper, and of quantum equilibrium propagation, from real runs.

    python DEQ-Quantum/reproduce.py table1|table2|table3|table4|tables     run what is not finished, show the table
    python DEQ-Quantum/reproduce.py table2 --report                        run nothing, write the table
    python DEQ-Quantum/reproduce.py table5                                 search hyper-parameters
    python DEQ-Quantum/reproduce.py theory                                 check the theory
    python DEQ-Quantum/reproduce.py figures                                draw the figures
    python DEQ-Quantum/reproduce.py report --html                          everything anew, and as one page

    python DEQ-Quantum/reproduce.py table FILES                            a table of any runs
    python DEQ-Quantum/reproduce.py run RUN | circuit | overview           one picture: a run's curves, ...
    python DEQ-Quantum/reproduce.py qep error|time|table|figures           studies of QEP, its tables and figures

`--help` after any of them teaches its flags. What each command does lies in `reproduction/`.
"""

import logging
import signal
import sys

from reproduction.checks import run_theory
from reproduction.command_line import parse_command_line
from reproduction.drawing import draw_circuit, draw_figures, draw_overview, draw_run
from reproduction.qep_studies import run_qep
from reproduction.report import write_report
from reproduction.rows import TABLES
from reproduction.run_searches import run_searches
from reproduction.run_table import show_table
from reproduction.run_tables import run_tables
from runs.settings import SettingsError
from utils.command_line import draw_into_files, fail, refuse_torchrun, share_cores

COMMANDS = {
    **dict.fromkeys(TABLES, run_tables),
    "tables": run_tables,
    "table5": run_searches,
    "figures": draw_figures,
    "report": write_report,
    "theory": run_theory,
    "table": show_table,
    "run": draw_run,
    "circuit": draw_circuit,
    "overview": draw_overview,
    "qep": run_qep,
}


def main(arguments: list[str] | None = None) -> None:
    """The command: what it cannot do ends it with one line."""
    refuse_torchrun("reproduce.py")
    options = parse_command_line(arguments)
    share_cores()
    draw_into_files()
    log = logging.getLogger("qdeq")
    log.setLevel(logging.INFO)
    log.addHandler(logging.StreamHandler(sys.stdout))
    try:
        COMMANDS[options.command](options)
    except (SettingsError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        print("\nstopped; what is done is kept, the same command resumes")
        raise SystemExit(128 + signal.SIGINT) from None


if __name__ == "__main__":
    main()
