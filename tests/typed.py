"""What tests of train_qdeq.py's command line share: reading a line as typed, and a value other than a default."""

import shlex

from training.command_line import parse_command_line


def parse(text: str):
    """What the command line reads from a line."""
    return parse_command_line(shlex.split(text))


def another(f):
    """A value of a settings field that is not its default."""
    if f.metadata["choices"]:
        return next(choice for choice in f.metadata["choices"] if choice != f.default)
    text = "/else/where" if f.metadata["path"] else "elsewhere"
    return not f.default if f.type is bool else f.default + {int: 3, float: 0.125, str: text}[f.type]
