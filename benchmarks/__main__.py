"""`python -m benchmarks [MODULE [NAME ...]]`: run benchmarks and print their tables."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks

MODULES = [item.name for item in pkgutil.iter_modules(benchmarks.__path__)]


def main() -> None:
    """Run one module's benchmarks, or every module's."""
    chosen = sys.argv[1:2] or MODULES
    for name in chosen:
        module = importlib.import_module(f"benchmarks.{name}")
        if hasattr(module, "main"):
            module.main(sys.argv[2:])


if __name__ == "__main__":
    main()
