"""`python -m obuild` and the `obuild` program."""

from __future__ import annotations

import sys

from obuild.cli import main as run

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its status."""
    sys.exit(run())


if __name__ == "__main__":
    main()
