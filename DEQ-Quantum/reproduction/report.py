"""`reproduce.py report`: tables, figures, the pages that show them and, if asked for, one page of all, anew."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from reproduction import qep_studies, run_table
from reproduction.drawing import IMAGES, draw_figures
from reproduction.markers import fill
from reproduction.rows import TABLES
from reproduction.run_tables import keep_and_show
from reproduction.search import searches_in
from reproduction.search import write_report as write_search_report
from reproduction.study_rows import STUDIES
from reproduction.summary import summary
from reproduction.tables import markdown
from runs.settings import SettingsError
from utils.files import REPOSITORY, remove_leftovers

# where tables are read
PAGES = ("README.md", "results/README.md", "results/benchmark/README.md", "results/qep/README.md")
# tables that a page may show and that need not have been run yet
NAMES = (*TABLES, "table5", *STUDIES, "summary")
# commands whose tables are of files
OF_FILES = {("table",): run_table.table_of_files, ("qep", "table"): qep_studies.table_of_files}


def write_report(options: argparse.Namespace) -> None:
    """Keep what is finished; write tables, figures and pages; nothing of a report that was killed stays beside them."""
    for folder in _folders_of(options):
        remove_leftovers(folder)
    contents = [keep_and_show(table, options, options.results_dir) for table in TABLES.values()]
    tables = {content["table"]: markdown(content) for content in contents}
    for name, parts in STUDIES.items():
        of_parts = [keep_and_show(part, options, options.results_dir) for part in parts]
        if shown := [markdown(content) for content in of_parts if content["rows"]]:
            tables[name] = "\n\n".join(shown)
    if found := write_search_report(searches_in(options.work_dir), options.results_dir):
        tables["table5"] = found
    if of_all := summary(contents):
        tables["summary"] = of_all
    draw_figures(options)
    if options.results_dir == REPOSITORY / "results" / "paper":
        for name in fill_pages(tables):
            print(f"no page has a place for {name}: <!-- reproduce.py {name} --> and <!-- end -->")
    if options.html:
        from reproduction.page import write_page  # here: an import that no other command needs

        pages = written_tables(options.results_dir)
        images = {path.name: path for folder in (IMAGES, options.images_dir) for path in sorted(folder.glob("*.png"))}
        write_page(options.html, pages, list(images.values()))
        print(options.html)


def _folders_of(options: argparse.Namespace) -> set[Path]:
    """The folders that a report writes into, as far as they exist; those of the figures are cleaned as they are drawn."""
    folders = {options.results_dir, *options.results_dir.glob("**/"), *((REPOSITORY / page).parent for page in PAGES)}
    if options.html:
        folders.add(options.html.parent)
    return {folder for folder in folders if folder.is_dir()}


def written_tables(results_dir: Path) -> list[Path]:
    """Markdown that commands have written; a folder's README.md is prose, with pictures that lie elsewhere."""
    return [path for path in sorted(results_dir.glob("*/*.md")) if path.name != "README.md"]


def fill_pages(tables: dict[str, str], root: Path = REPOSITORY, pages: Sequence[str] = PAGES) -> list[str]:
    """Put tables where they are read.

    Args:
        tables: Markdown by name; tables of files are made on the way.
        root: folder that the pages and the files of their tables are named from.
        pages: those that exist are filled.

    Returns:
        Names of tables for which no page has a place.

    Raises:
        SettingsError: a marker without an end, or that names no table, or files that are no results.
    """
    shown = set()
    for page in pages:
        if (root / page).exists():
            shown.update(fill(root / page, lambda command: table_of(command, tables, root)))
    return [name for name in tables if name not in shown]


def table_of(command: str, tables: dict[str, str], root: Path) -> str | None:
    """The table that a marker's command names; arguments as in `fill_pages`.

    Returns:
        Markdown; None for a table that has not been run yet.

    Raises:
        SettingsError: it names no table, or files that are no results.
    """
    if command in NAMES:
        return tables.get(command)
    words = shlex.split(command)
    for name, table_of_files in OF_FILES.items():
        patterns = words[len(name) :]
        if tuple(words[: len(name)]) == name and patterns:
            return table_of_files([path for pattern in patterns for path in _files(pattern, root)])
    raise SettingsError(f"<!-- reproduce.py {command} --> names no table")


def _files(pattern: str, root: Path) -> list[Path]:
    paths = sorted(root.glob(pattern), key=str)
    if not paths:
        raise SettingsError(f"{pattern} in a page's marker names no file")
    return paths
