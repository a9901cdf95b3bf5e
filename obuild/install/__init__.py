"""Layers of packages put into a directory of the host, which is then a switch like any other.

scan      what is in the way of moving packages
prefix    the directory: made beside, put in its place at once, updated later
"""

from __future__ import annotations

from obuild.install.prefix import Installed, install, load_installed
from obuild.install.scan import obstacles

__all__ = ["Installed", "install", "load_installed", "obstacles"]
