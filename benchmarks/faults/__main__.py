"""What a run survives: real trainings that are killed, signalled and starved of disk, or diverge.

    python -m benchmarks.faults                          # every campaign, an hour; rewrites docs/reliability.md
    python -m benchmarks.faults kills signals --count 4  # the named ones, four tries of each; prints, writes nothing

A campaign brings about one kind of fault again and again. The first line of its docstring is what the page says of it,
the rest is what a try must show to count as held. Trainings are processes of train_mnist.py, started by their command
line in temporary folders; mounting needs root.
"""

from __future__ import annotations

import argparse
import csv

from benchmarks import table
from benchmarks.faults import disks, generated, processes, training
from benchmarks.faults.campaign import Campaign, run

BEGIN = "<!-- by python -m benchmarks.faults, from reliability.csv -->"
CAMPAIGNS = {
    campaign.attempt.__name__: campaign
    for campaign in (
        Campaign("1+2", 50, processes.kills),
        Campaign(3, 25, processes.signals),
        Campaign(4, 10, processes.two_at_once),
        Campaign(5, 20, disks.disk),
        Campaign(6, 24, training.divergence),
        Campaign(7, 1, generated.checkpoints),
        Campaign(8, 1, generated.data_files),
        Campaign(9, 1, generated.settings),
        Campaign(10, 1, training.long_run),
        Campaign(11, 1, generated.mirrors),
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="campaign", help=f"of {', '.join(CAMPAIGNS)}; none: all")
    parser.add_argument("--count", type=int, help="tries of each, drawn at random; the result is printed, not written")
    options = parser.parse_args()
    if unknown := set(options.names) - set(CAMPAIGNS):
        parser.error(f"no such campaign: {', '.join(unknown)}")
    for name in options.names or CAMPAIGNS:
        row, seen = run(CAMPAIGNS[name], options.count)
        print(f"{row.number} {name}: {row.measured}; {row.detail}", flush=True)
        if options.count is None:
            table.write([row], "reliability", BEGIN)
            if seen["kills"]:
                with (table.DOCS / "reliability_kills.csv").open("w", encoding="utf-8", newline="") as file:
                    writer = csv.DictWriter(file, list(seen["kills"][0]), lineterminator="\n")
                    writer.writeheader()
                    writer.writerows(seen["kills"])


if __name__ == "__main__":
    main()
