"""Measurements, each a process of its own; none of them is imported by the programs."""

import os

os.environ.update(MPLBACKEND="agg", MATPLOTLIBRC=os.devnull)  # the user's own can make matplotlib's import fail
