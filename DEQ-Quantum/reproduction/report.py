"""Reports: tables of what is finished, written beside the results they are made of, and into the README."""

import re
from pathlib import Path

from reproduction.collect import collect, read_kept
from reproduction.jobs import Job
from reproduction.rows import Table
from reproduction.tables import as_csv, build_table, markdown
from utils.files import write_json, write_text


def write_table(table: Table, epochs: int, seeds: list[int], jobs: list[Job], results_dir: Path) -> dict:
    """Keep what is finished, then write table.md, table.csv and table.json of all that is kept.

    Returns:
        The table; without rows, and unwritten, where there is no finished run.

    Raises:
        SettingsError: a damaged results file.
    """
    collect(jobs, results_dir)
    kept = {(job.row, job.seed): read_kept(job, results_dir) for job in jobs}
    content = build_table(table, epochs, seeds, {key: value for key, value in kept.items() if value})
    if content["rows"]:
        folder = results_dir / table.name
        write_json(folder / "table.json", content)
        write_text(folder / "table.csv", as_csv(content))
        write_text(folder / "table.md", markdown(content) + "\n")
    return content


def put_into(readme: Path, tables: dict[str, str]) -> list[str]:
    """Replace the README's tables between `<!-- reproduce.py NAME -->` and `<!-- end -->`.

    Args:
        readme: the file.
        tables: Markdown by the table's name.

    Returns:
        Names of tables for which it has no place.
    """
    text, homeless = readme.read_text(), []
    for name, table in tables.items():
        marked = re.compile(rf"(<!-- reproduce\.py {name} -->\n).*?(<!-- end -->)", re.S)
        if not marked.search(text):
            homeless.append(name)
        text = marked.sub(lambda found, table=table: f"{found[1]}\n{table}\n\n{found[2]}", text)
    write_text(readme, text)
    return homeless
