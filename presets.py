"""What a preset or a sweep asks for: the settings of its runs, by the name of the config and the seed.

A preset is a folder of config files. A sweep is a YAML file, or a folder with one that is called sweep.yaml:

    base: ../fast/lambda_eff_1.yaml         # a config file, seen from the sweep's folder
    center_loss_weight: [0.01, 0.1, 1]      # of each setting a list of values: every combination of them is a config
    center_alpha: [0.1, 0.5]
    seed: [0, 1]                            # where nothing is said: [0]
    with_seed:                              # what goes along with the seeds, a value for each of them
      unknown_classes: [[3, 5], [0, 9]]
"""

import dataclasses
import functools
import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from config import Config, Count, parse_command_line
from running.command_line import Loader
from runs import CONFIG_NAME

SEEDS = {"fast": (0, 1, 2, 3, 4)}  # of presets, where nothing is said; (0,) of all others
NOT_SWEPT = {"output_dir", "run_name", "data_dir"}


@dataclass(frozen=True)
class Preset:
    """The configs of a preset or a sweep, softmax first, then rising lambda."""

    name: str
    arguments: dict[str, list[str]]  # of train_mnist.py, by the config's name
    seeds: tuple[int, ...]
    with_seed: dict[int, list[str]] = dataclasses.field(default_factory=dict)  # further arguments, by seed

    def run(self, name: str, seed: int) -> tuple[list[str], Config]:
        """The arguments of train_mnist.py that train a config with a seed, and the settings that they come to.

        Raises:
            ValueError: if the sweep has values for other seeds alone.
            SystemExit: code 2, if a setting is unknown or out of range; the message names it.
        """
        if self.with_seed and seed not in self.with_seed:
            raise ValueError(f"{self.name}: seed {seed} has no values in with_seed, seeds {[*self.with_seed]} have")
        arguments = [*self.arguments[name], *self.with_seed.get(seed, ()), f"--seed={seed}"]
        return arguments, _settings(tuple(arguments))


@functools.cache
def _settings(arguments: tuple[str, ...]) -> Config:
    return parse_command_line(list(arguments)).config


def read_preset(path: Path, options: Iterable[str] = ()) -> Preset:
    """The preset in a folder, or the sweep in a file.

    Args:
        path: of the folder or the file.
        options: of train_mnist.py, which go over the files.

    Raises:
        ValueError: if there is none, or the sweep is not as this module says; the message names the file.
        SystemExit: code 2, if a setting is unknown or out of range; the message names it.
    """
    folder, sweep = (path, path / "sweep.yaml") if path.suffix != ".yaml" else (path.with_suffix(""), path)
    if sweep.is_file():
        preset = _read_sweep(folder.name, sweep, list(options))
    else:
        files = [file for file in sorted(path.glob("*.yaml")) if re.fullmatch(CONFIG_NAME, file.stem)]
        arguments = {file.stem: ["--config", str(file), *options] for file in files}
        preset = Preset(path.name, arguments, SEEDS.get(path.name, (0,)))
    if not preset.arguments:
        known = sorted({file.parent.name for file in path.parent.glob("[!.]*/*.yaml")})
        raise ValueError(f"{path}: no preset there; expected one of {', '.join(known)}, or a sweep's YAML file")
    ranks = {name: (preset.run(name, preset.seeds[0])[1].center_loss_weight, name) for name in preset.arguments}
    return dataclasses.replace(
        preset, arguments={name: preset.arguments[name] for name in sorted(ranks, key=ranks.get)}
    )


def _read_sweep(name: str, path: Path, options: list[str]) -> Preset:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader)
        base, seeds, with_seed = values.pop("base"), values.pop("seed", ["0"]), values.pop("with_seed", {})
        seeds = tuple(int(Count(seed)) for seed in seeds)
        lists = {**values, **with_seed}
        fits = isinstance(base, str) and all(isinstance(value, list) and value for value in lists.values())
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a sweep ({type(error).__name__}: {error}); presets.py shows one") from error
    if not fits or any(len(value) != len(seeds) for value in with_seed.values()) or not seeds:
        raise ValueError(
            f"{path}: expected base, lists of values, and in with_seed a value for each of {len(seeds)} seeds"
        )
    said = {option.removeprefix("--").partition("=")[0] for option in options}
    unknown = lists.keys() - {field.name for field in dataclasses.fields(Config)}
    if wrong := unknown | (lists.keys() & (NOT_SWEPT | said)) | (values.keys() & with_seed.keys()):
        raise ValueError(f"{path}: {', '.join(sorted(wrong))}: no setting to sweep, or one that is said twice")
    varied = [setting for setting, of in values.items() if len(of) > 1]
    arguments = {}
    for combination in itertools.product(*values.values()):
        point = dict(zip(values, map(_text, combination), strict=True))
        label = "+".join(f"{setting}={_label(point[setting])}" for setting in varied) or Path(base).stem
        if label in arguments:
            raise ValueError(f"{path}: two runs of the name {label}; give each list no value twice")
        said_here = [f"--{setting}={value}" for setting, value in point.items()]
        arguments[label] = ["--config", str(path.parent / base), *said_here, *options]
    along = zip(*([f"--{setting}={_text(value)}" for value in of] for setting, of in with_seed.items()), strict=True)
    return Preset(name, arguments, seeds, dict(zip(seeds, map(list, along), strict=True)) if with_seed else {})


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _label(value: str) -> str:
    """A value as a part of a folder's name."""
    sign = "-" * value.startswith("-")
    return sign + re.sub(r"[^\w.-]+|\.(?!\d)", "-", value.replace("e+", "e")).strip("-") or "none"
