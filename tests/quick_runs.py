"""Run folders of a few training steps, for tests of what is done with them afterwards: their pictures are left out."""

from conftest import train_here

DIGITS = ("--dataset", "digits", "--num_classes", 4, "--n_wires", 4, "--batch_size", 64, "--device", "cpu",
          "--tensorboard", False)  # fmt: skip


def train_quickly(folder, name, max_step, *flags):
    """`folder/name`, trained on digits."""
    train_here(*DIGITS, "--max_step", max_step, *flags, "--work_dir", folder, "--name", name)
    return folder / name
