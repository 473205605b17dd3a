"""The end of a table in Weights & Biases: one run of job type "summary" in its group, with the table and the figures.

The runs themselves log as ever, grouped by table and with their row as job type; see runs/tracking.py.
"""

from pathlib import Path

from reproduction.tables import MEASURES


def log_summary(content: dict, images: list[Path], project: str, mode: str, folder: Path) -> str:
    """Log a table and its figures.

    Args:
        content: of `build_table`.
        images: PNG files.
        project, mode: as in train_qdeq.py, --wandb_project and --wandb.
        folder: where wandb keeps its files.

    Returns:
        The run's id.
    """
    import wandb  # here: it takes a second, and only this function needs it

    table = content["table"]
    folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project=project,
        name=f"{table} summary",
        group=table,
        job_type="summary",
        dir=folder,
        mode=mode,
        settings=wandb.Settings(silent=True),
    )
    columns, lines = table_of(content)
    run.log({table: wandb.Table(columns=columns, data=lines)})
    for row in content["rows"]:
        run.summary[f"{table}/{row['row']}/test_acc"] = row["test_acc"]["mean"]
    run.log({image.stem: wandb.Image(str(image)) for image in images})
    run.finish()
    return run.id


def table_of(content: dict) -> tuple[list[str], list[list]]:
    """Columns and lines: of each measure the mean, its standard deviation and, but for studies, the paper's value."""
    studied = content.get("columns")
    kept = [(name, key) for name in studied or MEASURES for key in ("mean", "std", *(() if studied else ("paper",)))]
    columns = ["row", "seeds", "epochs"] + [f"{name}_{key}" for name, key in kept]
    lines = [
        [row["label"], len(row["seeds"]), content["epochs"], *(row[name][key] for name, key in kept)]
        for row in content["rows"]
    ]
    return columns, lines
