"""Runs: what is recorded of health checks of whole repositories, day by day.

The modules here only read and write files below one directory, `STORE/runs/`; they know nothing of stores, sandboxes or
opam, so a dashboard needs nothing else. `docs/runs.md` describes the files:

    RUNS/
      runs/<run id>/                     plan.json solve.json dag.json … build.jsonl build/ docs/ summary.json
      latest -> runs/<run id>
      packages/<name.version>/history.jsonl
      status.json                        the state of everything after the last run
      locks/                             what is being built now
"""

from __future__ import annotations
