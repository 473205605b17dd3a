"""Device files from the calibration snapshots in Qiskit's runtime package: its JSON is read, nothing of it is imported.

Medians over a machine's qubits and gates. Newer releases carry newer machines; any release can be read.
"""

import json
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from hardware.channels import NoiseError
from hardware.devices import FOLDER
from hardware.native import TWO_WIRES
from utils.files import write_json

PACKAGE = "qiskit-ibm-runtime"


def snapshot_folder(root: Path | None = None) -> tuple[Path, str]:
    """Where the snapshots lie, and the release they are of.

    Args:
        root: the folder in which the package was installed; None: this environment's.

    Raises:
        NoiseError: it is not there.
    """
    inside = Path("qiskit_ibm_runtime") / "fake_provider" / "backends"
    if root is not None:
        found = next(iter(root.glob("qiskit_ibm_runtime-*.dist-info")), None)
        if found is None:
            raise NoiseError(f"{root} holds no {PACKAGE}: pip install --no-deps --target {root} {PACKAGE}")
        return root / inside, found.name.split("-")[1].removesuffix(".dist")
    spec = find_spec("qiskit_ibm_runtime")
    try:
        return Path(spec.origin).parents[1] / inside, version(PACKAGE)
    except (AttributeError, PackageNotFoundError) as error:
        raise NoiseError(f"{PACKAGE} is not installed: pip install -r requirements.txt") from error


def device_of_snapshot(name: str, root: Path | None = None) -> dict:
    """The entries of `devices.Device` for a machine.

    Raises:
        NoiseError: the package has no snapshot of that name.
    """
    folder, release = snapshot_folder(root)
    try:
        properties, configuration = (
            json.loads((folder / name / f"{kind}_{name}.json").read_text()) for kind in ("props", "conf")
        )
    except OSError as error:
        raise NoiseError(f"{PACKAGE} {release} has no snapshot of {name} ({error.strerror})") from error
    of_qubits: dict[str, list[float]] = {}
    for qubit in properties["qubits"]:
        for entry in qubit:
            of_qubits.setdefault(entry["name"], []).append(_value(entry))
    of_gates: dict[tuple[str, str], list[float]] = {}
    for gate in properties["gates"]:
        for entry in gate["parameters"]:
            of_gates.setdefault((gate["gate"], entry["name"]), []).append(_value(entry))
    two_wires = next(gate for gate in TWO_WIRES if gate in configuration["basis_gates"])

    def of(gate: str, entry: str) -> float:
        return _rounded([value for value in of_gates[gate, entry] if entry != "gate_error" or value < 1])

    entries = {
        "name": name,
        "calibrated": properties["last_update_date"][:10],
        "source": f"{PACKAGE} {release}, snapshot of {properties['backend_name']}, medians",
        "n_qubits": configuration["n_qubits"],
        "two_wires": two_wires,
        "T1_us": _rounded(of_qubits["T1"]),
        "T2_us": _rounded(of_qubits["T2"]),
        "sx_ns": of("sx", "gate_length"),
        "two_wires_ns": of(two_wires, "gate_length"),
        "sx_error": of("sx", "gate_error"),
        "two_wires_error": of(two_wires, "gate_error"),
        "readout_1_for_0": _rounded(of_qubits["prob_meas1_prep0"]),
        "readout_0_for_1": _rounded(of_qubits["prob_meas0_prep1"]),
        "max_circuits": configuration["max_experiments"],
        "max_shots": configuration["max_shots"],
        "repetition_us": configuration.get("default_rep_delay"),  # the oldest have none
    }
    return {entry: value for entry, value in entries.items() if value is not None}


def make_device_file(name: str, root: Path | None = None) -> Path:
    """Write `device_files/NAME.json` anew and say where it is."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    write_json(path, device_of_snapshot(name, root))
    return path


def _value(entry: dict) -> float:
    """In us of times that qubits have, in ns of gates' lengths, as the snapshots have them."""
    factors = {"ms": 1e3, "us": 1.0, "ns": 1.0, "s": 1e6} if entry["name"] in ("T1", "T2") else {}
    return entry["value"] * factors.get(entry["unit"], 1.0)


def _rounded(values: list[float]) -> float:
    """Their median, to four digits."""
    return float(f"{median(values):.4g}")
