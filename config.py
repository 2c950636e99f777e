"""The settings of a run: defined once, here. YAML files and the command line are derived from them.

The defaults are the blog's recipe with lambda = 0.01. A file in `configs/` holds only what differs.
"""

import argparse
import dataclasses
import json
import math
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import jsonargparse

from running.command_line import CONTROL, Parser, folder, number, text

# Each with its words for an error: "expected …".
PositiveCount = number("PositiveCount", int, lambda n: 0 < n < 2**31, "a whole number above 0")
Count = number("Count", int, lambda n: 0 <= n < 2**31, "a whole number, 0 or more")
Channels = number("Channels", int, lambda n: 1 <= n <= 4096, "a whole number from 1 to 4096")
Width = number("Width", int, lambda n: 2 <= n <= 4096, "a whole number from 2 to 4096")
Side = number("Side", int, lambda n: 8 <= n <= 128, "a whole number from 8 to 128")
Pixels = number("Pixels", int, lambda n: 0 <= n < 28, "a whole number from 0 to 27")
Margin = number("Margin", int, lambda n: 0 <= n <= 8, "a whole number from 0 to 8")  # 12 pixels are left
PoolSize = number("PoolSize", int, lambda n: n in (2, 3), "one of 2, 3")
NonNegative = number("NonNegative", float, lambda x: 0 <= x < math.inf, "a number, 0 or more")
Positive = number("Positive", float, lambda x: 0 < x < math.inf, "a number above 0")
Finite = number("Finite", float, math.isfinite, "a finite number")
Fraction = number("Fraction", float, lambda x: 0 <= x < 1, "a number from 0 up to, but not, 1")
UnitInterval = number("UnitInterval", float, lambda x: 0 <= x <= 1, "a number from 0 to 1")
# No part of a path, nothing that TensorFlow would take for a pattern, and only what YAML reads back.
Name = text("Name", rf"(?!(\.{{1,2}}|~)$)[^/\\*?\[\]{CONTROL}]+", "the plain name of a folder")

# Marks of a setting. What is resumable may change on resume: it alters no variable, and not which images come when.
RESUMABLE = {"resumable": True}
NOT_COMPARED = {"not_compared": True}  # runs that differ in it alone are runs of the same settings


@dataclass(frozen=True)
class Config:
    """Every setting of a training run."""

    # --- data
    dataset: Name = "mnist"
    """which images: mnist, fashion_mnist, digits (scikit-learn's), auto (MNIST if it can be had, else the digits), or
    the NAME of your own, in <data_dir>/NAME.npz or as IDX files in <data_dir>/NAME/"""
    data_dir: str = field(
        default_factory=lambda: os.environ.get("CENTERLOSS_DATA") or "data",
        metadata=RESUMABLE | NOT_COMPARED,
    )
    """folder that holds the data sets; by default $CENTERLOSS_DATA, else data"""
    transpose_images: bool = False
    """turns images upright that lie on their sides, as EMNIST's do"""
    unknown_classes: tuple[Count, ...] = ()
    """numbers of classes, counted from 0, that are left out of training; their test images are seen as unknown ones"""
    validation_fraction: Fraction = 0.2
    """part of the training images that is held out, stratified; 0: none, and no validation while it trains"""
    split_seed: Count = 0
    """which images are held out; apart from seed, so that runs with other seeds share their split"""
    input_range: Literal["unit", "centered"] = "unit"
    """unit: pixel / 255, in 0..1 (blog); centered: (pixel - 127.5) / 128 (paper)"""

    crop: Margin = 0
    """pixels cut off each image on each of its sides, after the shift; 0: none"""
    augment_shift: Pixels = 0
    """each training image is moved by up to so many pixels in either direction; 0: not at all"""

    # --- network
    feature_width: Width = 2
    """D of the feature layer; above 2 the pictures show its first two principal components"""
    channels: tuple[Channels, Channels, Channels] = (32, 64, 128)
    """channels of the three pairs of convolutions"""
    batch_norm: bool = True
    """batch norm after each convolution (blog), or a bias in it (paper)"""
    batch_norm_decay: UnitInterval = 0.999
    """decay per step of the moving averages that evaluation uses"""
    prelu_start: Finite = 0.0
    """first slope of each PReLU: 0 in the blog, 0.25 in the paper's code"""
    third_pool_size: PoolSize = 2
    """window of the third max-pool, stride 2: 2 in the blog, 3 in the paper's code"""
    feature_activation: Literal["prelu", "linear"] = "prelu"
    """what follows the 2-D feature layer"""
    classifier_bias: bool = True
    """bias in the last layer; without one the clusters lie on a ring (paper)"""
    weight_init: Literal["truncated_normal", "xavier"] = "truncated_normal"
    """truncated normal of stddev 0.1 (blog), or uniform within sqrt(3 / fan_in), as Caffe's (paper)"""
    classifier_ring: tuple[Count, ...] = ()
    """all classes in the order in which the classifier's weights start around a ring; empty: as weight_init"""

    precision: Literal["float32", "bfloat16", "auto"] = field(default="float32", metadata=RESUMABLE)
    """of the convolutional stages; auto is bfloat16 where the processor multiplies it in hardware"""

    # --- loss, Eq. 5
    center_loss: Literal["gather", "naive"] = field(default="gather", metadata=RESUMABLE)
    """Eq. 2 by tf.gather, or by the loop over the classes"""
    center_loss_weight: NonNegative = field(default=0.01, metadata=RESUMABLE)
    """lambda of Eq. 5; 0 is the softmax baseline"""
    center_loss_reduction: Literal["sum", "mean"] = "sum"
    """L_C over the batch, beside a mean cross entropy: summed (blog), or divided by B (paper's code)"""
    center_loss_warmup_steps: Count = field(default=0, metadata=RESUMABLE)
    """steps over which lambda rises from 0 to its value"""
    center_loss_warmup_power: Positive = field(default=1.0, metadata=RESUMABLE)
    """lambda rises as this power of the step: 1 is a straight line, more than 1 leaves most of the rise to the end"""
    center_alpha: UnitInterval = 0.5
    """alpha of Eq. 4, the rate of the centers"""
    center_update: Literal["py_func", "in_graph", "auto"] = field(default="py_func", metadata=RESUMABLE)
    """Eq. 4 by NumPy through py_func (blog), or by graph ops that touch the batch's classes alone; auto: the latter
    from C · D = 250,000 on, where copying all centers begins to cost"""

    # --- optimizer
    optimizer: Literal["adam", "sgd"] = "adam"
    """adam with TensorFlow's defaults, or sgd with momentum"""
    momentum: Fraction = 0.9
    """of sgd"""
    weight_decay: NonNegative = 0.0
    """times half the squared kernels, added to the loss; biases, slopes and batch norm are spared"""
    learning_rate: NonNegative = field(default=1e-3, metadata=RESUMABLE)
    """the constant rate, the peak of one_cycle, or the first rate of multi_step"""
    schedule: Literal["constant", "one_cycle", "multi_step"] = field(default="constant", metadata=RESUMABLE)
    """how the learning rate goes over the steps"""
    one_cycle_rise: UnitInterval = field(default=0.3, metadata=RESUMABLE)
    """one_cycle: the part of all steps over which the rate rises"""
    multi_step_at: tuple[PositiveCount, ...] = field(default=(), metadata=RESUMABLE)
    """multi_step: the steps at which the rate drops, ascending"""
    multi_step_factor: NonNegative = field(default=0.8, metadata=RESUMABLE)
    """multi_step: what the rate is multiplied by at each of them"""
    batch_size: PositiveCount = 100
    """B, images a step; the last batch of an epoch may be shorter"""
    steps: PositiveCount = field(default=16000, metadata=RESUMABLE)
    """training steps in all"""
    seed: Count = field(default=0, metadata=NOT_COMPARED)
    """of initial weights and data order"""

    # --- the run
    log_every_steps: PositiveCount = field(default=100, metadata=RESUMABLE | NOT_COMPARED)
    """steps between rows of metrics.csv, between printed lines, and between TensorBoard's events"""
    evaluate_every_steps: PositiveCount = field(default=1000, metadata=RESUMABLE | NOT_COMPARED)
    """steps between evaluations of the whole validation split"""
    checkpoint_every_steps: PositiveCount = field(default=1000, metadata=RESUMABLE | NOT_COMPARED)
    """steps between checkpoints"""
    snapshot_steps: tuple[Count, ...] | None = field(default=None, metadata=RESUMABLE | NOT_COMPARED)
    """steps at which 2,000 test images are seen, for the animation alone; by default up to 26, ever farther apart"""
    output_dir: str = field(default="outputs", metadata=NOT_COMPARED)
    """folder that gets the run's folder"""
    run_name: Name | None = field(default=None, metadata=NOT_COMPARED)
    """name of the run's folder; by default <config>-<time>-<six random characters>"""

    def __post_init__(self) -> None:
        """Raises ValueError for what a field's type alone can't tell."""
        for name in ("data_dir", "output_dir"):
            folder(name, getattr(self, name))
        if list(self.multi_step_at) != sorted(set(self.multi_step_at)):
            raise ValueError(f"multi_step_at: expected ascending steps, got {list(self.multi_step_at)}")
        if sorted(self.classifier_ring) != list(range(len(self.classifier_ring))):
            raise ValueError(f"classifier_ring: expected each class from 0 on once, got {list(self.classifier_ring)}")
        if self.classifier_ring and self.feature_width != 2:
            raise ValueError(f"classifier_ring: a ring is in the plane; feature_width is {self.feature_width}, not 2")
        if self.schedule == "multi_step" and not self.multi_step_at:
            raise ValueError("multi_step_at: schedule multi_step needs the steps at which the rate drops, got none")

    @property
    def lambda_eff(self) -> float:
        """Weight of L_C / B beside the mean cross entropy, by which runs of either reduction compare."""
        return self.center_loss_weight * (self.batch_size if self.center_loss_reduction == "sum" else 1)


def names(mark: dict[str, bool]) -> set[str]:
    """The settings that have the `mark`, RESUMABLE or NOT_COMPARED."""
    return {field.name for field in dataclasses.fields(Config) if mark.items() <= field.metadata.items()}


def checkpoint_folder(name: str, text: str) -> Path:
    """The run folder `text`; raises ValueError as `folder`, and where TensorFlow takes its name for a pattern."""
    path = folder(name, text)
    if set(str(path)) & set("*?[]\\"):
        raise ValueError(f"{name}: TensorFlow takes * ? [ ] \\ in {path} for a pattern; choose a folder without them")
    return path


class CommandLine(NamedTuple):
    """What the user asked train_mnist.py for."""

    config: Config
    run_folder: Path  # to make, or to go on with
    resume: bool
    overwrite: bool
    dry_run: bool = False  # only say what would be done


def parse_command_line(arguments: list[str]) -> CommandLine:
    """Reads the settings: the defaults, then `--config` or the resumed run's own, then the single options.

    Args:
        arguments: the words after the program's name.

    Raises:
        SystemExit: code 2 and a message that names the field, if anything is unknown, out of range, or may not
            change in a resumed run.
    """
    parser = _parser()
    for word in (*arguments, os.environ.get("CENTERLOSS_DATA", "")):
        if word != word.encode(errors="ignore").decode():  # neither YAML nor TensorFlow takes such a path
            parser.error(f"{word!a}: not UTF-8 text, or the locale is of another encoding: set PYTHONUTF8=1")
    try:
        options = parser.parse_args(arguments)
        _check_said(options, arguments)
        if options.resume is None:
            config = _config(options)
            file = options.config and options.config[-1]
            # Of several jobs that are started at once, each has its own.
            unique = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
            name = config.run_name or f"{Path(str(file)).stem if file else 'blog'}-{unique}"
            checkpoint_folder("output_dir", config.output_dir)
            where = "run_name" if config.run_name else "run_name (none is said, so it is the config file's)"
            run_folder = checkpoint_folder(where, str(Path(config.output_dir) / name))
            return CommandLine(config, run_folder, False, options.overwrite, options.dry_run)
        if options.config or options.overwrite:
            parser.error("--resume goes on with the run's own settings: leave out --config and --overwrite")
        run_folder = checkpoint_folder("--resume", options.resume)
        saved = run_folder / "config.yaml"
        if not saved.is_file():
            parser.error(f"--resume {options.resume}: no config.yaml there; see the folders in outputs/")
        before = read_config(saved)
        config = _config(parser.parse_args(["--config", str(saved), *arguments]))
    except UnicodeDecodeError as error:
        parser.error(f"--config: the file of settings is not UTF-8 text ({error})")
    except (ValueError, OSError) as error:  # what jsonargparse lets through: cross-field checks, unreadable files
        parser.error(f"{error}")
    for name, was in dataclasses.asdict(before).items():
        if name not in names(RESUMABLE) and getattr(config, name) != was:
            parser.error(
                f"--{name}: a resumed run keeps its {name} = {was}; "
                f"only these may change: {', '.join(sorted(names(RESUMABLE)))}"
            )
    return CommandLine(config, run_folder, True, False, options.dry_run)


def resolve_snapshot_steps(snapshot_steps: tuple[int, ...] | None, steps: int) -> tuple[int, ...]:
    """Where nothing is said: steps 0 and 10, and up to 24 of which each is the same factor later, but for rounding.

    Before step 10 there is little to see: all features are still close to the origin.
    """
    if snapshot_steps is not None:
        return snapshot_steps
    first = min(10, steps)
    return tuple(sorted({0} | {round(first * (steps / first) ** (i / 24)) for i in range(25)}))


def read_config(path: Path) -> Config:
    """The settings of a run, from its config.yaml.

    Raises:
        ValueError: if it can't be read, is cut short, or anything in it is unknown or out of range; the message names
            the file and the field.
    """
    parser = _parser()
    parser.exit_on_error = False
    try:
        options = parser.parse_args(["--config", str(path)])
        _check_said(options, [])
        config = _config(options)
    except (argparse.ArgumentError, ValueError, OSError) as error:
        what = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
        raise ValueError(f"{path}: can't be used ({what})") from error
    if config.run_name is None:  # the last that is written there; without the rest, defaults would be taken for it
        raise ValueError(f"{path}: can't be used (it ends before run_name)")
    return config


def to_yaml(config: Config) -> str:
    """Every setting as YAML, which `--config` reads back: a line each, the values in JSON, which is YAML."""
    return "".join(
        f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in dataclasses.asdict(config).items()
    )


# What the paper and other programs call some of the settings.
ALSO_CALLED = {
    "lambda": "--center_loss_weight", "lambda_eff": "--center_loss_weight", "λ": "--center_loss_weight",
    "alpha": "--center_alpha", "α": "--center_alpha", "b": "--batch_size", "bs": "--batch_size", "d": "--feature_width",
    "lr": "--learning_rate", "wd": "--weight_decay", "epochs": "--steps", "num_epochs": "--steps",
    "warmup": "--center_loss_warmup_steps", "shift": "--augment_shift", "name": "--run_name", "out": "--output_dir",
    "classes": "the data say how many classes there are", "num_classes": "the data say how many classes there are",
}  # fmt: skip


# Where --help begins a new group of settings: by the first of them, its title.
GROUPS = {
    "dataset": "data", "feature_width": "network", "center_loss": "loss, Eq. 5", "optimizer": "optimizer",
    "log_every_steps": "the run",
}  # fmt: skip
EXAMPLES = """examples:
  python train_mnist.py --config configs/blog/lambda_0.01.yaml
  python train_mnist.py --config configs/quickstart.yaml --dry_run
  python train_mnist.py --resume outputs/<run> --steps 30000
"""


def _parser() -> Parser:
    parser = Parser(
        prog="train_mnist.py", usage="train_mnist.py [--config FILE] [options] | --resume RUN [options]",
        epilog=EXAMPLES, description="Trains LeNet++ with center loss and draws its features.",
    )  # fmt: skip
    parser.also_called = ALSO_CALLED
    parser.add_argument("--config", action="config", help="YAML file of settings; the single options go over it")
    parser.add_argument("--resume", type=str, metavar="RUN", help="go on with the run in this folder")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier run of the same name")
    parser.add_argument("--dry_run", action="store_true", help="say what would be trained, and how long it takes")
    parser.add_class_arguments(Config)
    parser.group(GROUPS)
    return parser


def _check_said(options: jsonargparse.Namespace, arguments: list[str]) -> None:
    """Raises ValueError for what a file of settings says of what the `arguments` alone may say."""
    for name, unsaid in {"resume": None, "overwrite": False, "dry_run": False}.items():
        if options[name] != unsaid and not any(word.partition("=")[0] == f"--{name}" for word in arguments):
            raise ValueError(f"{name}: said on the command line alone, not in a file of settings")


def _config(options: jsonargparse.Namespace) -> Config:
    # The values come as instances of the restricted types, which JSON can't write.
    def plain(value):
        if isinstance(value, tuple):
            return tuple(map(plain, value))
        kind = next((kind for kind in (bool, int, float, str) if isinstance(value, kind)), None)
        return value if kind is None else kind(value)

    return Config(**{field.name: plain(options[field.name]) for field in dataclasses.fields(Config)})
