"""What each sub-command of `hardware.py` calls, and what the user can mend."""

from data_files import DataError
from deployment.costing import run_cost
from deployment.evaluation import run_evaluate
from deployment.exporting import run_export
from deployment.machines import run_devices
from deployment.on_machine import run_on_machine, run_transpile
from deployment.surrogates import run_surrogate
from deployment.sweeping import run_sweep
from engines.protocol import UnsupportedCircuit
from hardware.noise import NoiseError
from runs.checkpoint import CheckpointError
from runs.settings import SettingsError

COMMANDS = {
    "evaluate": run_evaluate,
    "sweep": run_sweep,
    "surrogate": run_surrogate,
    "cost": run_cost,
    "export": run_export,
    "run": run_on_machine,
    "transpile": run_transpile,
    "devices": run_devices,
}
MENDABLE = (CheckpointError, DataError, ImportError, NoiseError, OSError, SettingsError, UnsupportedCircuit)
