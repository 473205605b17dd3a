"""What every room may use and what knows none of them: command lines, files, seeds, statistics, Markdown tables."""
