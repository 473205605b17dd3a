"""`reproduce.py dashboard`: how the runs of the tables are laid out in Weights & Biases, as code.

Knows the names of metrics and tables and wandb-workspaces, which turns them into the JSON of a workspace; runs log into
it by themselves (see runs/wandb_log.py and dashboard.py).
"""

import argparse
import json

from reproduction.rows import TABLES
from runs.settings import SettingsError
from utils.files import write_text

X_AXIS = "epoch"
LOGARITHMIC = ("val_res_rel", "train_b_res_rel")
# metrics whose lines against the epoch a section shows, by its name; the last one is of the tables' own runs
SECTIONS = {
    "accuracy": ("val_acc", "train_acc"),
    "loss": ("val_loss", "train_loss", "train_jac_loss"),
    "equilibrium": (
        "val_res_rel", "val_solver_steps", "val_converged", "val_spectral_radius", "train_b_res_rel", "train_b_converged"
    ),
    "machine": ("seconds_per_step", "peak_memory_mb", "grad_norm"),
    "summary": (),
}  # fmt: skip
BARS = {"accuracy": ("test_acc",)}
FIGURES = [*(f"{figure}_{table}" for table in TABLES for figure in ("training", "confusion")),
           "accuracy_against_depth", "spectral_radius"]  # fmt: skip
GROUPS = ("Group", "JobType")  # the table, and its row


def make_dashboard(options: argparse.Namespace) -> None:
    """Make the workspace online with --entity, else write its JSON.

    Raises:
        SettingsError: wandb-workspaces is not installed, or wandb has not taken the workspace.
    """
    workspace = build_workspace(options.entity or "", options.wandb_project)
    if not options.entity:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(options.out, json.dumps(as_content(workspace), indent=2) + "\n")
        print(f"{options.out}; --entity NAME makes it online")
        return
    try:
        workspace.save()
    except Exception as error:  # wandb raises what its libraries do: no account, no network, no such project
        reason = str(error).strip().split("\n")[0]
        raise SettingsError(f"--entity {options.entity}: wandb has not taken the dashboard ({reason})") from error
    print(workspace.url)


def build_workspace(entity: str, project: str):
    """The `wandb_workspaces.workspaces.Workspace` of a project; nothing is sent.

    Raises:
        SettingsError: wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.workspaces as ws  # here: an extra, which takes seconds, and only this command needs it
    except ImportError as error:
        raise SettingsError("dashboard needs wandb-workspaces: bash bash_scripts/setup.sh --extras sweep") from error

    return ws.Workspace(
        entity=entity,
        project=project,
        name="QDEQ tables",
        auto_generate_panels=False,
        sections=[ws.Section(name=name, panels=_panels(name), is_open=True) for name in SECTIONS],
        settings=ws.WorkspaceSettings(x_axis=X_AXIS),
        runset_settings=ws.RunsetSettings(groupby=[ws.Metric(name) for name in GROUPS]),
    )


def _panels(section: str) -> list:
    import wandb_workspaces.reports.v2 as wr  # as above

    if section == "summary":
        tables = [wr.WeavePanelSummaryTable(table_name=table) for table in TABLES]
        return [*tables, wr.MediaBrowser(title="figures", media_keys=FIGURES)]
    lines = [
        wr.LinePlot(title=name, x=X_AXIS, y=[name], log_y=name in LOGARITHMIC) for name in SECTIONS[section]
    ]
    return lines + [wr.BarPlot(title=name, metrics=[name]) for name in BARS.get(section, ())]


def as_content(workspace) -> dict:
    """What is sent to wandb, as JSON has it."""
    return json.loads(workspace._to_model().model_dump_json(by_alias=True, exclude_none=True))
