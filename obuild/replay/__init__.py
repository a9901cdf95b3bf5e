"""Doing a failed build again: what a store remembers of it, the step that failed, all of it on another machine.

memory    which failure is meant, by a package, a build-id or a log
again     one of its steps, on what the steps before it left
below     the packages that it was built upon, where they are not there any more
parcel    a failure as a directory that another machine can replay
receive   such a directory put into a store
"""

from __future__ import annotations

from obuild.replay.again import Again
from obuild.replay.memory import Failed, find_failure, is_parcel

__all__ = ["Again", "Failed", "find_failure", "is_parcel"]
