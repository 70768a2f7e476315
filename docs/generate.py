"""Writes the pages of `docs/` that are read off the code: settings, code mapping and tables.

`python -m docs.generate` writes them. With `--check` it writes nothing, names the pages that are out of date and
exits 1 if there are any.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from docs import configuration_page, mapping_page, warehouse_page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["PAGES", "main", "outdated", "write"]

FOLDER = Path(__file__).parent

PAGES: dict[str, Callable[[], str]] = {
    "configuration.md": configuration_page.render,
    "mapping.md": mapping_page.render,
    "warehouse.md": warehouse_page.render,
}
"""File name to the function that makes its text. The text depends on the code alone, never on the environment."""


def outdated(folder: Path = FOLDER) -> list[str]:
    """Names of the pages in `folder` that are missing or differ from what would be written."""
    return [name for name, render in PAGES.items() if _read(folder / name) != render().encode()]


def write(folder: Path = FOLDER) -> list[str]:
    """Writes the pages that are out of date and returns their names."""
    names = outdated(folder)
    for name in names:
        (folder / name).write_bytes(PAGES[name]().encode())
    return names


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    """The command; returns its exit code.

    Args:
        arguments: Command line arguments; those of the process by default.
        folder: Where the pages are.
    """
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description="Write the generated pages of docs/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is out of date")
    if parser.parse_args(arguments).check:
        for name in (names := outdated(folder)):
            sys.stdout.write(f"docs/{name} is out of date; `make docs` writes it.\n")
        return 1 if names else 0
    for name in write(folder):
        sys.stdout.write(f"docs/{name} written.\n")
    return 0


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
