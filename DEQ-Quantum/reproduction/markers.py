"""Tables in Markdown pages: each stands between `<!-- reproduce.py COMMAND -->` and `<!-- end -->`.

COMMAND names the table, as `table2` or `table results/engines/compiled-*.json`. Each marker is a line of its own.
"""

import re
from collections.abc import Callable
from pathlib import Path

from runs.settings import SettingsError
from utils.files import write_text

BEGIN, END = re.compile(r"^<!-- reproduce\.py (.+?) -->$", re.M), "<!-- end -->"


def fill(page: Path, table_of: Callable[[str], str | None]) -> list[str]:
    """Put tables between a page's markers.

    Args:
        page: the file.
        table_of: the Markdown of a command; None: what stands there stays.

    Returns:
        The commands that the page has markers of.

    Raises:
        SettingsError: a marker without an end.
    """
    before, *parts = BEGIN.split(page.read_text())
    text, commands = [before], parts[::2]
    for command, part in zip(commands, parts[1::2]):
        old, end, after = part.partition(END)
        if not end:
            raise SettingsError(f"{page}: <!-- reproduce.py {command} --> has no {END} before the next marker")
        table = table_of(command)
        text += [f"<!-- reproduce.py {command} -->", old if table is None else f"\n\n{table}\n\n", END, after]
    write_text(page, "".join(text))
    return commands
