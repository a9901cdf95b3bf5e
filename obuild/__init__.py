"""obuild: a declarative build-spec interpreter, and the opam package builder on top of it."""

__version__ = "0.1.0"
