"""The settings: the blog's recipe value by value, the YAML files, precedence, refusals, and --resume."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from config import RESUMABLE, Config, parse_command_line, read_config, resolve_snapshot_steps, to_yaml
from config import names as setting_names
from running.command_line import typed

ROOT = Path(__file__).resolve().parent.parent


def read(path: Path) -> Config:
    """The settings of a file as `--config` takes them."""
    return parse_command_line(["--config", str(path)]).config


CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.name != "sweep.yaml")
BLOG = {  # the recipe of the blog's repository, and what it leaves open
    "dataset": "mnist",
    "validation_fraction": 0.2,  # 12,000 of 60,000
    "split_seed": 0,
    "input_range": "unit",
    "crop": 0,
    "augment_shift": 0,
    "channels": (32, 64, 128),
    "batch_norm": True,
    "batch_norm_decay": 0.999,
    "prelu_start": 0.0,
    "third_pool_size": 2,
    "feature_activation": "prelu",
    "classifier_bias": True,
    "weight_init": "truncated_normal",
    "classifier_ring": (),
    "precision": "float32",
    "center_loss": "gather",
    "center_loss_weight": 0.01,
    "center_loss_reduction": "sum",
    "center_loss_warmup_steps": 0,
    "center_loss_warmup_power": 1.0,
    "center_alpha": 0.5,
    "optimizer": "adam",
    "weight_decay": 0.0,
    "learning_rate": 0.001,
    "schedule": "constant",
    "batch_size": 100,
    "steps": 16_000,
    "snapshot_steps": None,
    "output_dir": "outputs",
    "run_name": None,
}


@pytest.fixture(autouse=True)
def no_data_folder_in_the_environment(monkeypatch):
    monkeypatch.delenv("CENTERLOSS_DATA", raising=False)


@pytest.fixture
def refused(capsys):
    """Runs a command line that must be refused; gives the message, without the usage before it."""

    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit) as raised:
            parse_command_line([str(argument) for argument in arguments])
        assert raised.value.code == 2
        text = capsys.readouterr().err
        assert "Traceback" not in text
        return text.rpartition("error: ")[2]

    return run


@pytest.fixture
def a_file(tmp_path):
    """Writes a config file."""

    def write(content: str | bytes, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def changed(config: Config) -> dict[str, object]:
    """The settings that are not the default."""
    default = Config()
    return {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(Config)
        if getattr(config, field.name) != getattr(default, field.name)
    }


@pytest.mark.parametrize("name", BLOG)
def test_default_is_the_blogs(name):
    got = getattr(Config(), name)
    assert got == BLOG[name]
    assert type(got) is type(BLOG[name])


def test_without_arguments_the_defaults_apply():
    command = parse_command_line([])
    assert command.config == Config()
    assert not command.resume
    assert not command.overwrite


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_in_configs_loads_and_holds_only_differences(path):
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    config = read(path)
    # The files of a folder differ in lambda, so each of them says it.
    spared = {"center_loss_weight"} if path.parent.name in ("blog", "paper", "fast", "long") else set()
    assert changed(config).keys() >= written.keys() - spared, "a line that says the default"
    assert changed(config).keys() <= written.keys()
    for name, value in written.items():
        assert getattr(config, name) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    ("name", "lambda_", "steps"),
    [("softmax", 0.0, 16_000), ("lambda_0.01", 0.01, 16_000), ("lambda_0.1", 0.1, 16_000), ("lambda_1", 1.0, 25_000)],
)
def test_blog_files_are_the_pictures_of_the_blog(name, lambda_, steps):
    config = read(ROOT / "configs" / "blog" / f"{name}.yaml")
    assert config == dataclasses.replace(Config(), center_loss_weight=lambda_, steps=steps)


# A null, written in any way, is no name: it stands for the default name. A # begins a comment.
# A ~ begins the home folder of a user.
NO_NAME = re.compile(r"null|~.*|#.*", re.IGNORECASE)
names = st.text(
    st.characters(exclude_categories=["C", "Zl", "Zp"], exclude_characters="/\x85\\*?[]"), min_size=1, max_size=20
).filter(lambda text: text.strip(". ") == text and not NO_NAME.fullmatch(text))


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.reuse, Phase.generate],  # to shrink a failure takes minutes
)
@given(
    run_name=st.one_of(names, st.sampled_from(["1e-3", "1E5", "0.1", "17", "true", "lambda λ=0.01", "数字", "é: ü"])),
    data_dir=st.one_of(names, st.sampled_from(["1e3", "/data/ζ", "- a", "{b}", "null"])),
    learning_rate=st.floats(0, 1e300),
    prelu_start=st.floats(-1e30, 1e30),
    channels=st.tuples(*[st.integers(1, 4096)] * 3),
    drops=st.lists(st.integers(1, 2**31 - 1), unique=True, max_size=4).map(sorted).map(tuple),
    batch_norm=st.booleans(),
    third_pool_size=st.sampled_from([2, 3]),
)
def test_yaml_round_trip(tmp_path, drops, **values):
    config = Config(multi_step_at=drops, **values)
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert read(path) == config


def test_a_runs_settings_are_whole_or_refused(tmp_path):
    path, config = tmp_path / "config.yaml", Config(steps=7, run_name="a run")
    text = to_yaml(config)
    path.write_text(text, encoding="utf-8")
    assert read_config(path) == config
    lines = text.splitlines(keepends=True)
    for kept in (0, 1, len(lines) // 2, len(lines) - 1):
        path.write_text("".join(lines[:kept]), encoding="utf-8")
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: can't be used"):
            read_config(path)
    path.write_text(text.replace("steps: 7", "steps: -7"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"(?s)config.yaml: can't be used .*steps"):
        read_config(path)


def test_yaml_names_every_setting():
    assert yaml.safe_load(to_yaml(Config())).keys() == {field.name for field in dataclasses.fields(Config)}


def test_a_run_named_like_a_number_can_be_resumed(tmp_path):
    command = parse_command_line(["--run_name", "1e-3", "--output_dir", str(tmp_path)])
    command.run_folder.mkdir()
    (command.run_folder / "config.yaml").write_text(to_yaml(command.config), encoding="utf-8")
    assert parse_command_line(["--resume", str(command.run_folder)]).config.run_name == "1e-3"


@pytest.mark.parametrize("name", ["#1", "#no: comment", "a #b", "a: b", "- a", "~a", "%a", "&a", "!a"])
def test_a_runs_name_is_taken_as_it_is(name):
    assert parse_command_line([f"--run_name={name}"]).run_folder.name == name


def test_file_goes_over_the_default_and_option_over_the_file(a_file):
    path = a_file("steps: 7\nlearning_rate: 0.5\nchannels: [4, 8, 16]\n")
    for arguments in (["--config", str(path), "--steps", "9"], ["--steps", "9", "--config", str(path)]):
        config = parse_command_line(arguments).config
        assert config.learning_rate == 0.5, "of the file"
        assert config.channels == (4, 8, 16)
        assert config.batch_size == 100, "the default"
        if arguments[0] == "--config":
            assert config.steps == 9, "of the option"


def test_every_kind_of_value_is_read_from_the_command_line():
    words = "--batch_norm false --third_pool_size 3 --channels [4,8,16] --multi_step_at [5,6] --learning_rate 1e-2"
    assert changed(parse_command_line([*words.split(), "--center_loss", "naive"]).config) == {
        "batch_norm": False,
        "third_pool_size": 3,
        "channels": (4, 8, 16),
        "multi_step_at": (5, 6),
        "learning_rate": 0.01,
        "center_loss": "naive",
    }


HOSTILE = {
    "steps": ["0", "-1", "1.5", "nan", "inf", "1e400", "many", "", "9" * 30, "null", "[1]", "true"],
    "seed": ["-1", "0.5", "nan", "", "2147483648"],
    "center_loss_warmup_steps": ["-1", "null"],
    "center_loss_warmup_power": ["0", "-1", "nan", "inf", "null"],
    "classifier_ring": ["[1]", "[1, 2, 3]", "[0, 1, 2, 3, 4, 5, 6, 7, 8, 8]", "[-1]", "[.nan]", "ring", "null"],
    "batch_size": ["0", "-100", "nan", "null"],
    "learning_rate": ["-1", "nan", "inf", "-inf", "1e400", "fast", "", "null", "[1]", "{}"],
    "center_loss_weight": ["-0.01", "nan", "inf", "1e400", "null", "[0.1]"],
    "center_alpha": ["1.5", "-0.1", "nan", "inf"],
    "batch_norm_decay": ["1.1", "-0.1", "nan"],
    "validation_fraction": ["1", "-0.1", "nan"],
    "momentum": ["1", "-0.5", "nan"],
    "prelu_start": ["nan", "inf", "-inf", "1e400", "null"],
    "weight_decay": ["-1", "nan", "inf"],
    "channels": ["[1]", "[1, 2, 3, 4]", "[0, 1, 2]", "4", "", "null", "[1, 2, 99999999999]", "[1, 2, .nan]",
                 "[1.5, 2, 3]", "[1, null, 3]"],
    "multi_step_at": ["[3, 2]", "[1, 1]", "[0]", "soon", "[.nan]", "null"],
    "snapshot_steps": ["[-1]", "[1.5]", "soon", "5", "[.nan]"],
    "crop": ["-1", "9", "1.5", "null"],
    "augment_shift": ["-1", "1.5", "nan", "null", "1000"],
    "batch_norm": ["maybe", "2", "", "null"],
    "dataset": ["../mnist", "a/b", "", "[mnist]"],
    "feature_width": ["0", "1", "4097", "2.5", "null"],
    "unknown_classes": ["[-1]", "[1.5]", "3", "null"],
    "third_pool_size": ["1", "4", "two", "2.5"],
    "precision": ["float16", ""],
    "run_name": ["..", ".", "a/b", "/abs", "../up"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in HOSTILE for value in HOSTILE[name]])
@pytest.mark.parametrize("source", ["option", "file"])
def test_hostile_value_is_refused_by_name(source, name, value, refused, a_file):
    if source == "option":
        message = refused(f"--{name}={value}")
    else:
        message = refused("--config", a_file(f"{name}: {value}\n".replace(": nan", ": .nan").replace("inf", ".inf")))
    assert name in message


words = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"], exclude_characters="\x85"), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([field.name for field in dataclasses.fields(Config)]),
    text=words
    | st.sampled_from([value for values in HOSTILE.values() for value in values])
    | st.from_regex(r"[-+.\[]?[0-9][-+.0-9eE,: \]]{0,6}", fullmatch=True),
)
def test_any_text_is_read_alike_or_refused_by_name_as_an_option_and_in_a_file(name, text, a_file, capsys):
    answers = []
    for arguments in (
        [f"--{name}={text}"],
        ["--config", str(a_file(f"{name}: {json.dumps(text, ensure_ascii=False)}\n"))],
    ):
        try:
            answers.append(getattr(parse_command_line(arguments).config, name))
        except SystemExit:
            message = capsys.readouterr().err
            assert name in message
            assert len(message) < 1000
            answers.append(None)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("value", ["9" * 400, "9" * 5000, "1" + ":10" * 300], ids=["beyond float", "int", "base 60"])
@pytest.mark.parametrize("name", ["steps", "learning_rate", "channels", "batch_norm", "precision"])
def test_a_huge_number_is_refused_by_name_and_briefly(name, value, refused, a_file):
    for message in (refused(f"--{name}={value}"), refused("--config", a_file(f"{name}: {value}\n"))):
        assert name in message
        assert len(message) < 1300


@pytest.mark.parametrize("name", ["blog/lambda_0.01", "paper/softmax", "quickstart"])
def test_a_long_word_in_a_file_changes_no_value(name, a_file):
    config = read(ROOT / "configs" / f"{name}.yaml")
    assert read(a_file(f"{to_yaml(config)}# {'a' * 400}\n")) == config


@pytest.mark.parametrize(
    ("written", "seed"),
    [("010", 10), ("7", 7), ("1:30", None), ("0x10", None), ("0o7", None), ("1e2", None), ("1_0", None), ("٣", None)],
)
def test_a_number_is_read_the_same_way_in_a_file_and_on_the_command_line(written, seed, refused, a_file):
    for words in ([f"--seed={written}"], ["--config", str(a_file(f"seed: {written}\n"))]):
        if seed is None:
            assert f"seed: expected a whole number, 0 or more, got {written}" in refused(*words)
        else:
            assert parse_command_line(words).config.seed == seed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--lambda", "0.1"], "--lambda: no such option here; did you mean --center_loss_weight?"),
        (["--alpha=1"], "--alpha: no such option here; did you mean --center_alpha?"),
        (["--Lambda=1"], "--Lambda: no such option here; did you mean --center_loss_weight?"),
        (["--num_classes=3"], "--num_classes: no such option here; the data say how many classes there are"),
        (["--third_pool_size", "0b11"], "third_pool_size: expected one of 2, 3, got 0b11"),
        (["--learning_rate=[1]"], "learning_rate: expected a number, 0 or more, got ['1']"),
        (["--dataset", "a/b"], "dataset: expected the plain name of a folder, got a/b"),
        (["--run_name", "Stra\x9fe"], "run_name: expected the plain name of a folder, or null, got Stra\x9fe"),
        (["--output_dir", "a\x9f"], "output_dir: expected a folder of this machine, got 'a\\x9f'"),
        (["--stepz", "3"], "--stepz: no such option here; did you mean steps?"),
        (["--channels", "4,4,4"], "channels: expected 3 of them, as '[1, 2, 3]', each a whole number from 1 to 4096"),
        (["--steps", "0"], "steps: expected a whole number above 0, got 0"),
        (["--snapshot_steps", "5"], "snapshot_steps: expected a list, as '[1, 2]', each a whole number, 0 or more"),
        (["--precision", "fp8"], "precision: expected one of float32, bfloat16, auto, got fp8"),
        (["--batch_norm", "maybe"], "batch_norm: expected true or false, got maybe"),
        (["--output_dir", "gs://b/c"], "output_dir: expected a folder of this machine, got 'gs://b/c'"),
        (["--data_dir", "~nobody here/a"], "data_dir: no home folder is known for '~nobody here/a'"),
        (["--output_dir", "~nobody here"], "output_dir: no home folder is known for '~nobody here'"),
        (["--data_dir", "a\n"], "data_dir: expected a folder of this machine, got 'a\\n'"),
        (["--output_dir", "a[1]"], "output_dir: TensorFlow takes * ? [ ] \\ in a[1] for"),
        (["--resume", "a\\b"], "--resume: TensorFlow takes"),
    ],
)
def test_an_error_names_the_option_what_was_expected_and_the_nearest_name(words, told, capsys):
    with pytest.raises(SystemExit):
        parse_command_line(words)
    usage, error = capsys.readouterr().err.splitlines()
    assert usage == "usage: train_mnist.py [options]; --help lists them"
    assert error.startswith(f"error: {told}")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "expected a file of lines `name: value`, got an empty one"),
        ("- 1\n", "expected a file of lines `name: value`, got '- 1'"),
        ("word\n", "expected a file of lines `name: value`, got 'word'"),
        ("steps: 1\nseed: 2\nsteps: 3\n", "--config: not YAML: steps is there twice in line 3"),
        (
            "brand_new: 3\n",
            "brand_new: no setting of this name here, in a file of settings; perhaps it is one of a later",
        ),
        ("overwrite: false\n", "overwrite: said on the command line alone, not in a file of settings"),
        ("dry_run: no\n", "dry_run: said on the command line alone, not in a file of settings"),
        ("resume: null\n", "resume: said on the command line alone, not in a file of settings"),
        ("stepz: 3\n", "stepz: no setting of this name here, in a file of settings; did you mean steps?"),
    ],
)
def test_a_file_that_holds_no_settings_is_told(content, told, a_file, refused):
    assert told in refused("--config", a_file(content))
    with pytest.raises(ValueError, match=re.escape(told)):
        read_config(a_file(content))


def test_a_home_folder_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_command_line(["--output_dir=~/runs", "--run_name=a"]).run_folder == tmp_path / "runs" / "a"


@pytest.mark.parametrize("name", ["run_name", "data_dir", "output_dir"])
def test_empty_text_is_refused_by_name(name, refused, a_file):
    assert name in refused(f"--{name}=")
    assert name in refused("--config", a_file(f"{name}: ''\n"))


@pytest.mark.parametrize("option", ["--run_name", "--data_dir", "--output_dir", "--resume", "--config"])
def test_a_path_that_is_not_utf_8_is_refused_by_name(option, refused):
    assert option in refused(f"{option}=folder-\udcff")


def test_a_data_folder_of_the_environment_that_is_not_utf_8_is_refused(refused, monkeypatch):
    monkeypatch.setenv("CENTERLOSS_DATA", "folder-\udcff")
    assert "folder-" in refused()


def test_multi_step_needs_steps(refused):
    assert "multi_step_at" in refused("--schedule", "multi_step")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("no_such_setting: 1\n", "no_such_setting"),
        ("network:\n  channels: [1, 2, 3]\n", "network"),
        ("[1, 2]\n", "config"),
        ("5\n", "config"),
        ("", "config"),
        ("# steps: 5\n", "config"),
        ("steps: [\n", "config"),
        ("\tsteps: 1\n", "config"),
        (b"run_name: caf\xe9\n", "UTF-8"),
        (b"\x00\x01\xff\xfe", "UTF-8"),
        ("data_dir: [a]\n", "data_dir"),
        ("steps: {a: 1}\n", "steps"),
        ("steps: '3 '\nlearning_rate: x\n", "learning_rate"),
    ],
)
def test_hostile_file_is_refused(content, named, refused, a_file):
    assert named in refused("--config", a_file(content))


def test_a_tag_in_a_file_runs_nothing(refused, a_file, tmp_path):
    witness = tmp_path / "witness"
    for tag in ("python/object/apply:os.system", "python/object/apply:os.mkdir"):
        message = refused(
            "--config", a_file(f"data_dir: !!{tag} ['{witness}']\n".replace("system ['", "system ['touch "))
        )
        assert "data_dir" in message
    assert not witness.exists()


def test_missing_file_and_folder_are_refused_by_path(refused, tmp_path):
    assert str(tmp_path / "missing.yaml") in refused("--config", tmp_path / "missing.yaml")
    assert str(tmp_path) in refused("--config", tmp_path)


@pytest.mark.parametrize("arguments", [["--no_such", "1"], ["--step", "5"], ["stray"], ["--steps"], ["--config"]])
def test_unknown_or_unfinished_option_is_refused_by_name(arguments, refused):
    assert arguments[0] in refused(*arguments), "abbreviations too"


def test_help_tells_meaning_and_unit(capsys):
    with pytest.raises(SystemExit) as raised:
        parse_command_line(["--help"])
    assert raised.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "lambda of Eq. 5; 0 is the softmax baseline" in text
    assert "steps between checkpoints" in text
    assert "alpha of Eq. 4, the rate of the centers" in text
    for field in dataclasses.fields(Config):
        described = re.search(rf"--{field.name} [^ ]+ (\(type|.)", text)
        assert described, field.name
        assert described[1] != "(type", f"{field.name} has no meaning in the help"


@pytest.mark.parametrize(
    "script",
    ["train_mnist", "visualize", "reproduce", "predict", "import_data", "compare_losses", "scripts/local_cluster"],
)
def test_help_fits_into_80_columns_and_needs_no_docstrings(script, run_script):
    for optimize in ("0", "2"):  # 2 leaves the docstrings out
        done = run_script(f"{script}.py", "--help", COLUMNS="80", PYTHONOPTIMIZE=optimize)
        assert done.returncode == 0, done.stderr
        assert max(map(len, done.stdout.splitlines())) <= 80


# --- names and folders


def test_run_is_named_after_the_config_file_and_the_time(a_file):
    path = a_file("steps: 5\n", "ring λ.v2.yaml")
    command = parse_command_line(["--config", str(path), "--output_dir", "somewhere"])
    assert command.run_folder.parent == Path("somewhere")
    assert re.fullmatch(r"ring λ\.v2-\d{8}-\d{6}-[0-9a-f]{6}", command.run_folder.name)
    several = {str(parse_command_line([]).run_folder) for _ in range(50)}
    assert len(several) == 50, "of jobs that are started in the same second, each has its own"
    assert all(re.fullmatch(r"outputs/blog-\d{8}-\d{6}-[0-9a-f]{6}", folder) for folder in several)


def test_a_home_folder_may_make_a_path_a_pattern(monkeypatch, refused):
    monkeypatch.setenv("HOME", "/home/a[1]")
    assert "output_dir: TensorFlow takes * ? [ ] \\ in /home/a[1]/runs for" in refused("--output_dir", "~/runs")


def test_a_config_files_odd_name_is_told_with_the_way_on(a_file, refused):
    assert "run_name (none is said, so it is the config file's)" in refused(
        "--config", a_file("steps: 5\n", "a*b.yaml")
    )


def test_a_locale_in_which_tensorflow_would_write_elsewhere_is_refused(monkeypatch, refused):
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "iso8859-1")
    assert "by TensorFlow as UTF-8; set PYTHONUTF8=1" in refused("--output_dir", "café")
    assert parse_command_line(["--output_dir", "cafe", "--run_name=a"]).run_folder == Path("cafe/a")


@pytest.mark.parametrize("path", ["é" * 128, "/".join(["a" * 200] * 16)])
def test_a_path_that_no_file_system_takes_is_refused(path, refused):
    assert "output_dir: expected names of up to 255 bytes, and 3,000 in all" in refused("--output_dir", path)


def test_a_command_names_a_folder_with_a_dash_so_that_it_can_be_typed():
    assert typed("-o/a b") == "'./-o/a b'"
    assert typed(Path("o/a")) == "o/a"


def test_run_name_names_the_folder():
    command = parse_command_line(["--run_name", "my run", "--overwrite"])
    assert command.run_folder == Path("outputs/my run")
    assert command.overwrite


def test_data_folder_comes_from_the_environment(monkeypatch, a_file):
    assert parse_command_line([]).config.data_dir == "data"
    monkeypatch.setenv("CENTERLOSS_DATA", "/elsewhere/données")
    assert Config().data_dir == "/elsewhere/données"
    assert parse_command_line([]).config.data_dir == "/elsewhere/données"
    assert parse_command_line(["--config", str(a_file("data_dir: of_the_file\n"))]).config.data_dir == "of_the_file"
    assert parse_command_line(["--data_dir", "given"]).config.data_dir == "given"


@pytest.mark.parametrize(
    ("lambda_", "reduction", "batch_size", "expected"),
    [
        (0.01, "sum", 100, 1.0),
        (0.1, "sum", 100, 10.0),
        (1.0, "sum", 100, 100.0),
        (0.01, "mean", 100, 0.01),
        (0.5, "sum", 128, 64.0),
        (0.0, "sum", 100, 0.0),
    ],
)
def test_lambda_eff(lambda_, reduction, batch_size, expected):
    config = Config(center_loss_weight=lambda_, center_loss_reduction=reduction, batch_size=batch_size)
    assert config.lambda_eff == pytest.approx(expected, rel=1e-12)


def test_snapshots_are_where_they_were_asked_or_spread_over_the_logarithm_of_the_steps():
    assert resolve_snapshot_steps((3, 7), 100) == (3, 7)
    assert resolve_snapshot_steps((), 100) == ()
    steps = resolve_snapshot_steps(None, 10**6)
    assert (steps[0], steps[1], steps[-1]) == (0, 10, 10**6)
    assert steps[-1 - 12] == round(10**3.5), "halfway on the logarithmic scale"
    assert len(steps) == 26
    assert list(steps) == sorted(set(steps))
    assert resolve_snapshot_steps(None, 15) == (0, 10, 11, 12, 13, 14, 15)
    assert resolve_snapshot_steps(None, 10) == (0, 10)
    assert resolve_snapshot_steps(None, 1) == (0, 1)
    for told in ("config.py", "docs/run_folder.md"):
        assert f"up to {len(steps)}" in (ROOT / told).read_text(), told


# --- resume


@pytest.fixture
def earlier_run(tmp_path):
    """The folder of a run, with settings that are not the defaults."""
    folder = tmp_path / "an earlier run"
    folder.mkdir()
    config = Config(steps=500, seed=7, batch_size=64, channels=(4, 8, 16), data_dir="d", run_name="an earlier run")
    (folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    return folder, config


def test_resumed_run_has_its_own_settings(earlier_run):
    folder, config = earlier_run
    command = parse_command_line(["--resume", str(folder)])
    assert command.config == config
    assert command.run_folder == folder
    assert command.resume
    assert not command.overwrite


ALLOWED = {
    "data_dir": ("elsewhere", "elsewhere"),
    "steps": ("900", 900),
    "learning_rate": ("0.5", 0.5),
    "schedule": ("one_cycle", "one_cycle"),
    "one_cycle_rise": ("0.1", 0.1),
    "multi_step_at": ("[3, 4]", (3, 4)),
    "multi_step_factor": ("0.1", 0.1),
    "center_loss": ("naive", "naive"),
    "center_loss_weight": ("0.5", 0.5),
    "center_loss_warmup_steps": ("30", 30),
    "center_loss_warmup_power": ("3", 3.0),
    "precision": ("bfloat16", "bfloat16"),
    "center_update": ("in_graph", "in_graph"),
    "log_every_steps": ("3", 3),
    "evaluate_every_steps": ("3", 3),
    "checkpoint_every_steps": ("3", 3),
    "snapshot_steps": ("[0, 5]", (0, 5)),
}
REFUSED = {
    "dataset": "digits", "validation_fraction": "0.5", "split_seed": "1", "input_range": "centered",
    "crop": "2", "augment_shift": "2", "channels": "[1, 2, 3]", "batch_norm": "false", "batch_norm_decay": "0.5",
    "prelu_start": "0.25", "third_pool_size": "3", "feature_activation": "linear", "classifier_bias": "false",
    "weight_init": "xavier", "classifier_ring": "[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]", "center_loss_reduction": "mean",
    "center_alpha": "0.1", "optimizer": "sgd", "momentum": "0.5", "weight_decay": "0.1", "batch_size": "100",
    "seed": "0", "output_dir": "elsewhere", "run_name": "another", "transpose_images": "true",
    "unknown_classes": "[3]", "feature_width": "3",
}  # fmt: skip


def test_every_setting_is_either_resumable_or_not():
    assert ALLOWED.keys() == setting_names(RESUMABLE)
    assert ALLOWED.keys() | REFUSED.keys() == {field.name for field in dataclasses.fields(Config)}


@pytest.mark.parametrize("name", ALLOWED)
def test_resumed_run_may_change(name, earlier_run):
    folder, config = earlier_run
    word, value = ALLOWED[name]
    command = parse_command_line(["--resume", str(folder), f"--{name}={word}"])
    assert command.config == dataclasses.replace(config, **{name: value})


@pytest.mark.parametrize("name", REFUSED)
def test_resumed_run_may_not_change(name, earlier_run, refused):
    folder, config = earlier_run
    message = refused("--resume", folder, f"--{name}={REFUSED[name]}")
    assert message.startswith(f"--{name}: ")
    assert str(getattr(config, name)) in message, "what it was"


def test_resumed_run_may_be_told_what_it_has(earlier_run):
    folder, config = earlier_run
    assert parse_command_line(["--resume", str(folder), "--seed", "7", "--batch_size", "64"]).config == config


def test_a_change_of_the_defaults_does_not_reach_a_resumed_run(earlier_run, monkeypatch):
    folder, config = earlier_run
    monkeypatch.setenv("CENTERLOSS_DATA", "/new/place")
    assert parse_command_line(["--resume", str(folder)]).config.data_dir == config.data_dir == "d"


def test_resume_of_nothing_is_refused_by_path(tmp_path, refused):
    assert str(tmp_path) in refused("--resume", tmp_path)
    assert str(tmp_path / "gone") in refused("--resume", tmp_path / "gone")
    assert "null" in refused("--resume", "null"), "not a new run"
    assert "--resume" in refused("--resume", "")


def test_resume_with_config_or_overwrite_is_refused(earlier_run, refused, a_file):
    folder, _ = earlier_run
    assert "--overwrite" in refused("--resume", folder, "--overwrite")
    assert "--config" in refused("--resume", folder, "--config", a_file("steps: 3\n"))


def test_resume_of_a_damaged_config_is_refused(earlier_run, refused):
    folder, _ = earlier_run
    (folder / "config.yaml").write_text("steps: lots\n")
    assert "steps" in refused("--resume", folder)
    (folder / "config.yaml").write_bytes(b"steps: \xff")
    assert "UTF-8" in refused("--resume", folder)
