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
from mnist_data import DataError
from running.command_line import Parser, folder
from running.run_folder import RunFolderError
from running.streams import outlive_readers


def main(arguments: list[str] | None = None) -> None:
    """The command line; exits with code 2 for a bad setting, file or folder."""
    parser = Parser(prog="visualize.py", description=__doc__)
    parser.add_argument("runs", nargs="+", type=str, help="run folders")
    parser.add_argument("--split", type=Literal["train", "test", "both"], default="both", help="which images")
    parser.add_argument("--common_scale", type=bool, default=False, help="the same limits in all figures and subplots")
    parser.add_argument("--limits", nargs=4, type=float, metavar=("X0", "X1", "Y0", "Y1"), help="limits of all axes")
    parser.add_argument("--format", type=Literal["png", "pdf", "svg"], default="png", help="of the files")
    parser.add_argument(
        "--out", type=str, help="folder for the files; default: the run's own, outputs for several runs"
    )
    parser.add_argument("--animate", action="store_true", help="only animation.gif, of one run; ignores all but --out")
    parser.add_argument("--html", action="store_true", help="only explorer.html, of one run; ignores all but --out")
    parser.add_argument("--data_dir", type=str, help="for --html, where the run's data are; default: as in the run")
    options = parser.parse_args(arguments)

    try:
        folders = [folder("runs", run) for run in options.runs]
        out = folder("--out", options.out) if options.out else None
        if not options.animate and not options.html:
            written = figures.draw(
                folders,
                splits=runs.SPLITS if options.split == "both" else (options.split,),
                common_scale=options.common_scale,
                limits=options.limits and tuple(options.limits),
                format=options.format,
                out=out,
            )
        elif len(folders) > 1:
            option = "--html" if options.html else "--animate"
            raise ValueError(f"{option}: expected one run, got {len(folders)}; do one after the other")
        elif options.html:
            written = figures.explore(folders[0], options.data_dir, out=out)
        else:
            written = figures.animate(folders[0], out=out)
    except (RunFolderError, DataError, ValueError, OSError) as error:
        advice = "; choose another folder with --out" if isinstance(error, OSError) else ""
        print(f"visualize.py: {error}{advice}", file=sys.stderr)
        sys.exit(2)
    print(*written, sep="\n")


if __name__ == "__main__":
    outlive_readers()
    main()
