"""What a run survives: real trainings that are killed, signalled and starved of disk, or go on for long.

    python -m benchmarks.faults                          # every campaign, an hour; rewrites docs/reliability.md
    python -m benchmarks.faults kills signals --count 4  # the named ones, four tries of each; prints, writes nothing

A campaign brings about one kind of fault again and again. The docstring of its function says what a try must show to
count as held. Trainings are processes of train_mnist.py, started by their command line in temporary folders; mounting
needs root. Faults of files, settings and mirrors are those that the tests draw at random, in larger numbers.
"""

import argparse
import csv

from benchmarks import table
from benchmarks.faults import disks, endurance, processes
from benchmarks.faults.campaign import Campaign, passing, run

BEGIN = "<!-- by python -m benchmarks.faults, from reliability.csv -->"
CAMPAIGNS = {
    "kills": Campaign("1+2", 50, "SIGKILL in training, snapshot, checkpoint, extraction, drawing; the resumed run "
        "equals the undisturbed one to the bit", processes.kills),
    "signals": Campaign(3, 25, "SIGINT, SIGTERM, or two of SIGINT while the full network trains on MNIST; then on with "
        "the command it gave", processes.signals),
    "disk": Campaign(5, 15, "A run's disk gets full, or its folder read-only or moved: code 2 or 4 and a path; mended, "
        "it goes on", disks.disk),
    "checkpoints": Campaign(7, 1, "Bytes of a checkpoint flipped: the newest whole one is used; no wrong number is "
        "read", passing("tests/test_checkpoints.py -k flipped_byte", 1000)),
    "data_files": Campaign(8, 1, "IDX files, plain or gzipped, mutated before or after they are packed: read right, or "
        "refused", passing("tests/test_mnist_data.py -k arbitrary_and_mutated", 20_000)),
    "npz_files": Campaign(12, 1, "npz files, mutated before or after they are packed: read right, or refused",
        passing("tests/test_import_data.py -k mutated_npz", 20_000)),
    "settings": Campaign(9, 1, "Any text for any setting, as option and in a file: read alike in both, or refused by "
        "its name", passing("tests/test_config.py -k any_text", 5000)),
    "endurance": Campaign(10, 1, "100,000 steps: memory and the number of files stay as they were",
        endurance.endurance),
    "mirrors": Campaign(11, 1, "A mirror answers with an error, hangs, breaks off, or sends another file: the next one "
        "is asked", passing("tests/test_mnist_data.py -k mirror")),
    "cluster": Campaign(13, 1, "A cluster is stopped, loses a worker and then its chief, in each of five trainings: it "
        "goes on, and equals the undisturbed one to 10⁻⁵", passing("tests/test_cluster.py -k lost_chief", 500)),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="campaign", help=f"of {', '.join(CAMPAIGNS)}; none: all")
    parser.add_argument("--count", type=int, help="tries of each, drawn at random; the result is printed, not written")
    options = parser.parse_args()
    if unknown := set(options.names) - set(CAMPAIGNS):
        parser.error(f"no such campaign: {', '.join(unknown)}")
    for name in options.names or CAMPAIGNS:
        row, seen = run(name, CAMPAIGNS[name], options.count)
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
