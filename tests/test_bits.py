"""Each preset takes the same first steps as at commit 4c31e84, to the bit."""

import dataclasses
import json

import pytest

from conftest import ROOT
from make_bits import bits_of, presets, processor
from mnist_data import load
from running.precision import resolve_precision
from splits import divide
from training_graph import build_graph

MADE = json.loads((ROOT / "tests" / "bits.json").read_text(encoding="utf-8"))
PRESETS = dict(presets(ROOT))


@pytest.fixture(scope="module")
def digits():
    return load("digits", "")


def test_every_preset_of_then_is_still_there():
    assert MADE["presets"].keys() <= PRESETS.keys()


FAST_THEN = {
    "crop": 0, "augment_shift": 0, "batch_size": 100, "learning_rate": 0.006, "steps": 1500,
    "center_loss_warmup_steps": 1200,
}  # fmt: skip
NAMES = ("blog/lambda_0.01", "blog/softmax", "paper/lambda_0.1", "fast/lambda_eff_1", "quickstart", "digits")


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_takes_the_same_steps(name, digits):
    config, expected = PRESETS[name], dict(MADE["presets"][name])
    if name in ("fast/lambda_eff_1", "quickstart"):  # their recipe is another since; its steps are what they were
        config = dataclasses.replace(config, **FAST_THEN)
    config = dataclasses.replace(config, precision=resolve_precision(config.precision)[0])
    splits = divide(digits, config.validation_fraction, config.split_seed)
    got = bits_of(lambda config: build_graph(config, 10, (28, 28)), config, digits, splits.train.index)
    assert got["initial"] == expected["initial"]
    # Another processor, or TensorFlow for it, may add in another order.
    if processor() == MADE["cpu"] and config.precision == expected["precision"]:
        assert (got["trained"], got["loss"]) == (expected["trained"], expected["loss"])
    else:
        assert got["loss"] == pytest.approx(expected["loss"], rel=0.05)
