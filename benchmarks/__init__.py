"""Benchmarks: obuild beside its peers and the bare machine, in one run, as ratios."""
