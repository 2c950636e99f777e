"""Draws the features of finished runs from their folders alone: `python visualize.py outputs/<run> [more runs ...]`.

One run gives a figure for each split; several give a panel figure for each split, one subplot a run. With --animate a
run's snapshots become animation.gif, the first test images over its training. With --html its test images can be looked
into in a page, explorer.html.
"""

import os
import sys
from typing import Literal

if __name__ == "__main__":
    os.environ.update(MPLBACKEND="agg", MATPLOTLIBRC=os.devnull)  # the user's own can make matplotlib's import fail

import figures
import runs
from config import Finite, PositiveCount
from data_files import DataError
from running.command_line import Parser, folder
from running.run_folder import RunFolderError
from running.streams import outlive_readers

WHAT = ("clusters", "regions", "confusion", "distances", "curves")


def main(arguments: list[str] | None = None) -> None:
    """The command line; exits with code 2 for a bad setting, file or folder."""
    parser = Parser(prog="visualize.py", description=__doc__)
    parser.add_argument("runs", nargs="+", type=str, help="run folders")
    parser.add_argument("--split", type=Literal["train", "test", "both"], default="both", help="which images")
    parser.add_argument("--common_scale", type=bool, default=False, help="the same limits in all figures and subplots")
    parser.add_argument("--limits", nargs=4, type=Finite, metavar=("X0", "X1", "Y0", "Y1"), help="limits of all axes")
    parser.add_argument("--format", type=Literal["png", "pdf", "svg"], default="png", help="of the files")
    parser.add_argument(
        "--out", type=str, help="folder for the files; default: the run's own, outputs for several runs"
    )
    parser.add_argument(
        "--what", type=str, default="clusters",
        help="some of clusters,regions,confusion,distances,curves; of several runs clusters alone",
    )  # fmt: skip
    parser.add_argument(
        "--outliers",
        type=PositiveCount,
        metavar="N",
        help="only outliers.png and outliers.csv, the N worst test images of one run",
    )
    parser.add_argument("--animate", action="store_true", help="only animation.gif, of one run; takes --out")
    parser.add_argument(
        "--html", action="store_true", help="only explorer.html, of one run; takes --out and --data_dir"
    )
    parser.add_argument("--data_dir", type=str, help="of the run's data, for --html and --outliers")
    options = parser.parse_args(arguments)

    try:
        folders = [folder("runs", run) for run in options.runs]
        out = folder("--out", options.out) if options.out else None
        what = options.what.split(",")
        if unknown := set(what) - set(WHAT):
            raise ValueError(f"--what: expected some of {','.join(WHAT)}, got {','.join(sorted(unknown))}")
        alone = {"--animate": options.animate, "--html": options.html, "--outliers": options.outliers}
        alone |= {"--what": what != ["clusters"]}
        if len(folders) > 1 and any(alone.values()):
            option = next(name for name, given in alone.items() if given)
            raise ValueError(f"{option}: expected one run, got {len(folders)}; do one after the other")
        splits = runs.SPLITS if options.split == "both" else (options.split,)
        written = []
        if options.html:
            written = figures.explore(folders[0], options.data_dir, out=out)
        elif options.outliers:
            written = figures.outliers(folders[0], options.outliers, options.data_dir, out=out)
        elif options.animate:
            written = figures.animate(folders[0], out=out)
        else:
            for one in what:
                if one == "clusters":
                    limits = options.limits and tuple(options.limits)
                    looks = {"common_scale": options.common_scale, "limits": limits, "format": options.format}
                    written += figures.draw(folders, splits=splits, out=out, **looks)
                else:
                    for split in splits if one != "curves" else splits[:1]:
                        written += figures.diagnose(folders[0], one, split, format=options.format, out=out)
    except (RunFolderError, DataError, ValueError, OSError) as error:
        advice = "; choose another folder with --out" if isinstance(error, OSError) else ""
        print(f"visualize.py: {error}{advice}", file=sys.stderr)
        sys.exit(2)
    print(*written, sep="\n")


if __name__ == "__main__":
    outlive_readers()
    main()
