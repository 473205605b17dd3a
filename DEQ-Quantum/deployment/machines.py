"""`hardware.py devices`: the machines that are known, and their files made anew."""

from argparse import Namespace

import numpy as np

from hardware.devices import Values, known_devices, read_device
from hardware.snapshots import make_device_file
from utils.markdown import markdown_table


def run_devices(options: Namespace) -> None:
    """Write the files that are asked for; print all that are there."""
    for name in options.make:
        make_device_file(name, options.package)
    rows = []
    for device in sorted(map(read_device, known_devices()), key=lambda device: (device.calibrated, device.name)):
        rows.append([
            device.name, device.calibrated, str(device.n_qubits),
            f"{_median(device.T1_us):.0f} / {_median(device.T2_us):.0f}",
            f"{device.sx_error:.1e}", f"{device.two_wires} {device.two_wires_error:.1e}, {device.two_wires_ns:.0f} ns",
            f"{_median(device.readout_1_for_0):.3f} / {_median(device.readout_0_for_1):.3f}",
            device.source.partition(",")[0],
        ])  # fmt: skip
    header = ["device", "calibrated", "qubits", "T1 / T2, us", "sx error", "two wires: error, time",
              "reads 1 for 0 / 0 for 1", "source"]  # fmt: skip
    print(markdown_table(header, rows))


def _median(values: Values) -> float:
    """Of all wires."""
    return float(np.median(values))
