"""Signals and dead letters as lines and pictures: for `earlybird demo` and `earlybird signals`."""
