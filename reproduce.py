"""Makes the figures and tables of a preset or of a sweep, with all configs and several seeds, by one command.

    python reproduce.py blog
    python reproduce.py paper --steps 1500 --set precision=bfloat16
    python reproduce.py fast --seeds 0 1 2 3 4 --export docs/results
    python reproduce.py blog --only softmax lambda_0.01
    python reproduce.py my_sweep.yaml
    python reproduce.py my_sweep.yaml --jobs 4 --engine dask
    python reproduce.py fast --from docs/results
    python reproduce.py fast --from docs/results --only softmax lambda_eff_1 --out outputs/two

Each run is a process of its own, `train_mnist.py --config configs/<preset>/<config>.yaml --seed <n>`. A second call
skips what is finished and goes on with what was interrupted. presets.py says what a preset and a sweep are,
planned_runs.py trains, and results.py makes the tables and panels.
"""

import dataclasses
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

if __name__ == "__main__":
    PARENT = os.getppid()  # read before the imports: an engine's worker may be gone after them
    os.environ.update(MPLBACKEND="agg", MATPLOTLIBRC=os.devnull)  # the user's own can make matplotlib's import fail

import jsonargparse

import results
from config import ALSO_CALLED, NOT_COMPARED, Config, Count, PositiveCount, names
from planned_runs import STOP_FILE, Planned, train_all, train_at_once
from presets import Preset, read_preset
from running import jobs
from running.command_line import Parser, did_you_mean, folder
from running.run_folder import RunFolderError
from running.signals import Stopped
from running.streams import outlive_readers
from runs import Run, finished, read_export, read_folders

ROOT = Path(__file__).resolve().parent


def refuse_others(runs: Iterable[Run], preset: Preset, ignored: Iterable[str]) -> None:
    """Compares `runs` with the settings that `preset` asks for, but for the fields `ignored`.

    Raises:
        RunFolderError: naming the first run that is of no such config or has other settings, and the field.
    """
    for run in runs:
        if run.name not in preset.arguments:
            known = ", ".join(preset.arguments)
            raise RunFolderError(f"{run.path}: of no config asked for ({known}); choose another folder by --out")
        _, wanted = preset.run(run.name, run.config.seed)
        if wanted.dataset == "auto" and run.config.dataset in ("mnist", "digits"):
            wanted = dataclasses.replace(wanted, dataset=run.config.dataset)
        if wanted.precision == "auto":  # another processor may have chosen the other
            wanted = dataclasses.replace(wanted, precision=run.config.precision)
        for field in dataclasses.fields(Config):
            has, wants = getattr(run.config, field.name), getattr(wanted, field.name)
            if has != wants and field.name not in ignored:
                raise RunFolderError(
                    f"{run.path}: of other settings than asked for, {field.name} {has} instead of {wants}; "
                    "ask for the same, or choose another folder by --out (of runs) or --export_as (of an export)"
                )


def refuse_export(folder: Path, presets: Path, asked: Preset) -> None:
    """Raises RunFolderError if runs of the preset `asked` for may not be exported to `folder`.

    A folder named as a preset holds nothing but whole runs of it, whatever their precision; any other holds runs of
    the same settings.
    """
    ignored = names(NOT_COMPARED) | {"precision"}
    if (presets / folder.name).is_dir():
        runs = [Run(name, folder / name, asked.run(name, asked.seeds[0])[1], None, {}) for name in asked.arguments]
        refuse_others(runs, read_preset(presets / folder.name), ignored)
    refuse_others(read_export(folder), asked, ignored)


def one_run(run: Planned, options: jsonargparse.Namespace) -> list[str]:
    """The words of a command that makes one run, wherever it stands; once it is finished, the command does nothing."""
    is_file = options.preset.endswith(".yaml")
    words = [sys.executable, ROOT / "reproduce.py", Path(options.preset).resolve() if is_file else options.preset]
    words += ["--configs", Path(options.configs).resolve(), "--out", run.folder.parent.resolve()]
    data = Path(os.path.expanduser(run.config.data_dir)).resolve()  # noqa: PTH111 - as mnist_data does
    words += ["--only", run.name, "--seeds", run.config.seed, "--set", *options.set, f"data_dir={data}"]
    return [*map(str, words), *(["--steps", str(options.steps)] if options.steps else [])]


def refuse_unknown(only: Iterable[str], known: Iterable[str]) -> None:
    """Raises RunFolderError if `only` holds what is not among the `known` names of configs."""
    if unknown := set(only) - set(known):
        raise RunFolderError(f"--only {' '.join(sorted(unknown))}: no such config, expected {', '.join(known)}")


def reproduce(options: jsonargparse.Namespace, parent: int | None) -> int:
    """Trains, tables and exports, for `main`; returns the exit code, or raises Stopped after a signal."""
    presets, over = Path(options.configs), [f"--{setting}" for setting in options.set]
    over += [f"--steps={options.steps}"] if options.steps else []
    is_file = options.preset.endswith(".yaml")
    preset = read_preset(Path(options.preset) if is_file else presets / options.preset, over)
    refuse_unknown(options.only, preset.arguments)
    trial = f"-{options.steps}-steps" if options.steps else ""  # not in the way of the whole runs
    out = folder("--out", options.out or f"outputs/reproduce-{preset.name}{trial}")
    refuse_others(read_folders(out), preset, names(NOT_COMPARED))
    destination = options.export and folder("--export", options.export) / (options.export_as or preset.name)
    if destination:
        refuse_export(destination, presets, preset)

    planned = []
    for seed in dict.fromkeys(options.seeds or preset.seeds):
        for name in (name for name in preset.arguments if not options.only or name in options.only):
            arguments, config = preset.run(name, seed)
            run_name = f"{name}-seed{seed}"
            arguments = [*arguments, f"--output_dir={out}", f"--run_name={run_name}"]
            planned.append(Planned(name, out / run_name, config, arguments))
    if options.plan:
        print(*(shlex.join(one_run(run, options)) for run in planned if not finished(run.folder, run.config)), sep="\n")
        return 0
    if options.jobs > 1 or options.engine is not None:
        engine = {"engine": options.engine or "loky", "jobs": options.jobs, "address": options.address}
        failed = train_at_once(planned, lambda run: one_run(run, options), out.resolve() / ".stop", **engine)
    else:
        failed = train_all(planned, parent)
    runs = [run for run in read_folders(out) if run.metrics is not None]
    if runs:
        pictures = STOP_FILE not in os.environ  # else the call that runs several draws, once
        print(*results.write(out, preset.name, runs, common_scale=options.common_scale, pictures=pictures), sep="\n")
        if destination:
            print(*results.export(runs, destination, common_scale=options.common_scale), sep="\n")
    if failed:
        print(
            f"failed: {', '.join(failed)}. A run without metrics.json is in no table. A second call tries again.",
            file=sys.stderr,
        )
    return 1 if failed else 0


def redraw(options: jsonargparse.Namespace) -> int:
    """Makes panel and tables of an export again, or of some of its configs, from its own files; the exit code."""
    export = folder("--from", options["from"]) / options.preset
    runs = read_export(export)
    if not runs:
        raise RunFolderError(f"{export}: no export there, expected {export}/<config>/seed_<n>.npz")
    if options.only:
        refuse_unknown(options.only, dict.fromkeys(run.name for run in runs))
        runs = [run for run in runs if run.name in options.only]
        if not options.out:
            raise RunFolderError(f"{export}: has tables of all its configs; with --only, say another folder by --out")
    out = folder("--out", options.out) if options.out else export
    print(*results.write(out, options.preset, runs, common_scale=options.common_scale), sep="\n")
    return 0


def main(arguments: list[str] | None = None, parent: int | None = None) -> int:
    """The command line, in a process that `parent` started, its id; returns the exit code.

    0; 1 if a run failed, or is trained without all of its files; 2 for a bad setting, file or folder; 128 and the
    signal's number after a signal.
    """
    parser = Parser(prog="reproduce.py", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("preset", type=str, help="a folder in --configs: blog, paper, fast, …; or the YAML file of a sweep")
    add("--seeds", type=Count, nargs="+", help="default: a sweep's own; of fast 0 1 2 3 4; of others 0")
    add("--only", type=str, nargs="+", default=[], metavar="CONFIG", help="these configs of the preset alone")
    add("--steps", type=PositiveCount, help="instead of the configs' own, to try things out")
    add("--set", type=str, nargs="+", default=[], metavar="NAME=VALUE", help="settings over the configs' own")
    add("--out", type=str | None, help="folder of the runs; default: outputs/reproduce-<preset>[-<steps>-steps]")
    add("--common_scale", type=bool, default=False, help="the same limits in all subplots")
    add("--export", type=str | None, metavar="DIR", help="write DIR/<preset>/, small enough for a repository, too")
    add("--export_as", type=str | None, metavar="NAME", help="write DIR/NAME/ instead")
    add("--from", type=str | None, metavar="DIR", help="train nothing, redraw the export DIR/<preset>/")
    add("--jobs", type=PositiveCount, default=1, help="runs at once; each takes all cores that it finds")
    add(
        "--engine",
        type=Literal["loky", "dask", "ray"] | None,
        help="what runs them at once; default: loky, if --jobs says several",
    )
    add("--address", type=str | None, help="of a Dask or Ray cluster that is there")
    add("--plan", action="store_true", help="train nothing, print a command for each run that is not finished")
    add("--configs", type=str, default=str(ROOT / "configs"), help="folder of the presets")
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(arguments)
    # The others are said by options of this program.
    settings = {field.name for field in dataclasses.fields(Config)} - {"seed", "steps", "output_dir", "run_name"}
    for setting in options.set:
        name, said, _ = setting.partition("=")
        if not said or name not in settings:
            near = did_you_mean(name, settings, ALSO_CALLED) or f"the name one of {', '.join(sorted(settings))}"
            parser.error(f"--set {setting}: expected <name>=<value>; {near}")
    for name in (None if options.preset.endswith(".yaml") else options.preset, options.export_as):
        if name is not None and (Path(name).name != name or name == ".."):
            parser.error(f"{name!r}: expected the plain name of a folder")
    try:
        return redraw(options) if options["from"] is not None else reproduce(options, parent)
    except Stopped as stopped:
        if STOP_FILE not in os.environ:  # else the call that runs several says so
            print(f"stopped by {stopped}; go on with: python reproduce.py {shlex.join(arguments)}", file=sys.stderr)
        return 128 + stopped.signum
    except (RunFolderError, jobs.EngineError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    outlive_readers()
    sys.exit(main(parent=PARENT))
