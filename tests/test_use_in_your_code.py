"""Every block of docs/use_in_your_code.md runs in a process of its own, beside the files that it says to copy."""

import re
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT

BLOCKS = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "use_in_your_code.md").read_text(encoding="utf-8"), re.DOTALL
)
CHECKS = [
    # Keras: a further step moves the centers by Eq. 4.
    """
from update_centers import update_centers
before, seen = center_loss.centers.numpy(), without_labels.predict(x[:100], verbose=0)[0]
model.train_on_batch([x[:100], y[:100]], y[:100])
np.testing.assert_allclose(center_loss.centers.numpy(), update_centers(before, seen, y[:100], 0.5), atol=1e-6)
assert nearest_center.shape == (1000,) and np.abs(before).max() > 0
""",
    # TensorFlow 1: the last update, by NumPy.
    """
    after = session.run(centers)
    x, before, d, update = session.run([features, own_centers, moves, center_update], batch)
    from update_centers import update_centers
    expected = update_centers(after, x, y, 0.5)
    np.testing.assert_allclose(session.run(centers), expected, atol=1e-5)
    assert np.abs(after).max() > 0 and np.isfinite(value)
""",
    # TensorFlow 2: the centers move; in a tf.function as eagerly.
    """
import numpy as np
from update_centers import update_centers
images, labels = tf.random.normal([100, 784]), tf.random.uniform([100], 0, 10, tf.int64)
for run in (train_step, train_step.python_function):
    before, x = centers.numpy(), network(images).numpy()
    run(images, labels)
    np.testing.assert_allclose(centers.numpy(), update_centers(before, x, labels.numpy(), 0.5), atol=1e-5)
""",
    """
assert centers.shape == (10, 2) and np.abs(centers).max() > 0 and gradient.shape == (100, 2) and center_loss > 0
assert "tensorflow" not in __import__("sys").modules
""",
]


NAMES = ("keras", "tf1", "tf2", "numpy")


@pytest.mark.parametrize(("block", "check"), list(zip(BLOCKS, CHECKS, strict=True)), ids=NAMES)
def test_a_block_of_the_page_runs_beside_the_files(tmp_path, block, check):
    for name in ("centerloss.py", "update_centers.py", "centerloss_keras.py"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", block + check], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_blogs_way_works_with_reference_variables(tmp_path):
    code = """
import sys
import numpy as np
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
from centerloss import center_loss, center_loss_naive
from update_centers import update_centers, update_centers_op
x, y = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.int32, [None])
centers = tf.get_variable("centers", [5, 3], initializer=tf.ones_initializer(), trainable=False)
assert "ref" in centers.dtype.name
old = tf.identity(centers)
losses = center_loss(x, y, old), center_loss(x, y, centers), center_loss_naive(x, y, centers, 5)
update = centers.assign(update_centers_op(old, x, y, 0.5))
features, labels = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 4
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    values = session.run(losses, {x: features, y: labels})
    session.run(update, {x: features, y: labels})
    np.testing.assert_allclose(values, 0.5 * ((features - 1) ** 2).sum(), rtol=1e-5)
    np.testing.assert_array_equal(session.run(centers), update_centers(np.ones((5, 3)), features, labels, 0.5))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
