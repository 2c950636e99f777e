"""Measures the rows of docs/performance.md: `python -m benchmarks`, rows 1 to 9, or `--long`, row 10."""

import argparse

from benchmarks import center_updates, many_classes, table, time_to_accuracy, training_step, whole_run

parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
parser.add_argument("--long", action="store_true", help="row 10 alone, which takes 5 to 90 minutes")

if __name__ == "__main__":
    if parser.parse_args().long:
        table.write(time_to_accuracy.measure())
    else:
        for module in (training_step, center_updates, whole_run):
            table.write(module.measure())
        many_classes.main()
