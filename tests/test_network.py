"""LeNet++: its variables counted by hand, its two towers, batch norm and PReLU against NumPy, bfloat16."""

import ml_dtypes
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import network

BLOG = {
    "feature_width": 2,
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
}
PAPER = BLOG | {
    "batch_norm": False,
    "prelu_start": 0.25,
    "third_pool_size": 3,
    "feature_activation": "linear",
    "classifier_bias": False,
    "weight_init": "xavier",
}
SMALL = {"channels": (3, 4, 5)}  # fast to run
IMAGES = np.random.default_rng(0).random((6, 28, 28), np.float32)


@pytest.fixture(autouse=True)
def own_graph():
    with tf.Graph().as_default():
        tf.set_random_seed(0)
        yield


def tower(options, *, training=False, images=IMAGES):
    return network.lenet(tf.constant(images), "lenet", 10, training=training, **options)


def shapes():
    """Of all variables, by name without the scope."""
    return {v.op.name.removeprefix("lenet/"): tuple(v.shape.as_list()) for v in tf.global_variables()}


def initial_values():
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return {v.op.name.removeprefix("lenet/"): session.run(v) for v in tf.global_variables()}


STAGES = {"1a": (1, 32), "1b": (32, 32), "2a": (32, 64), "2b": (64, 64), "3a": (64, 128), "3b": (128, 128)}


def test_variables_of_the_blog():
    out = tower(BLOG, training=True)
    expected = {}
    for stage, (before, after) in STAGES.items():
        expected[f"conv{stage}/kernel"] = (5, 5, before, after)
        for name in ("scale", "offset", "moving_mean", "moving_variance"):
            expected[f"norm{stage}/{name}"] = (after,)
        expected[f"prelu{stage}/slope"] = (after,)
    expected["feature/kernel"] = (1152, 2)  # 28 → 14 → 7 → 3 by three pools: 3 · 3 · 128
    expected["feature/bias"] = (2,)
    expected["feature_prelu/slope"] = (2,)
    expected["classifier/kernel"] = (2, 10)
    expected["classifier/bias"] = (10,)
    assert shapes() == expected
    # Kernels 25·(1·32 + 32·32 + 32·64 + 64·64 + 64·128 + 128·128) = 25 · 31,776 = 794,400. Channels of the six
    # convolutions 2·(32 + 64 + 128) = 448: scale, offset and slope each. Feature 2,304 + 2 + 2, classifier 20 + 10.
    trained = sum(v.shape.num_elements() for v in tf.trainable_variables())
    assert trained == 794_400 + 3 * 448 + 2_308 + 30 == 798_082
    assert sum(v.shape.num_elements() for v in tf.global_variables()) == 798_082 + 2 * 448, "and the moving averages"
    assert out.features.shape == (6, 2)
    assert out.logits.shape == (6, 10)


def test_variables_of_the_paper():
    tower(PAPER, training=True)
    expected = {}
    for stage, (before, after) in STAGES.items():
        expected[f"conv{stage}/kernel"] = (5, 5, before, after)
        expected[f"conv{stage}/bias"] = (after,)
        expected[f"prelu{stage}/slope"] = (after,)
    expected["feature/kernel"] = (1152, 2)  # (7 − 3) / 2 + 1 = 3
    expected["feature/bias"] = (2,)
    expected["classifier/kernel"] = (2, 10)
    assert shapes() == expected
    # Kernels as above; a bias and a slope for each of 448 channels; feature 2,306; classifier 20.
    assert sum(v.shape.num_elements() for v in tf.trainable_variables()) == 794_400 + 2 * 448 + 2_306 + 20 == 797_622
    assert len(tf.global_variables()) == len(tf.trainable_variables())
    assert tf.get_collection(tf.GraphKeys.UPDATE_OPS) == []


def test_all_variables_are_float32():
    tower(BLOG | {"precision": "bfloat16"}, training=True)
    assert {v.dtype for v in tf.global_variables()} == {tf.float32}


def test_initial_values_of_the_blog():
    tower(BLOG, training=True)
    values = initial_values()
    kernels = {name: value for name, value in values.items() if name.endswith("/kernel")}
    assert len(kernels) == 8
    for value in kernels.values():
        assert np.abs(value).max() <= 0.2, "cut at two standard deviations"
    large = kernels["conv3b/kernel"]
    # A normal cut at ±2σ keeps sqrt(1 − 4 φ(2) / (2 Φ(2) − 1)) = sqrt(1 − 4 · 0.053991 / 0.954500) = 0.87963 of its σ.
    assert large.std() == pytest.approx(0.1 * 0.87963, rel=0.005)
    assert large.mean() == pytest.approx(0.0, abs=0.001)
    assert np.abs(large).max() > 0.199
    for name, value in values.items():
        kind = name.rpartition("/")[2]
        if kind != "kernel":
            start = {"scale": 1, "moving_variance": 1, "offset": 0, "moving_mean": 0, "bias": 0, "slope": 0}[kind]
            np.testing.assert_array_equal(value, np.full(value.shape, start), err_msg=name)


def test_initial_values_of_the_paper():
    tower(PAPER, training=True)
    values = initial_values()
    fan_in = {f"conv{stage}/kernel": 25 * before for stage, (before, _) in STAGES.items()}
    fan_in |= {"feature/kernel": 1152, "classifier/kernel": 2}
    for name, number in fan_in.items():
        bound = np.sqrt(3 / number)
        largest = np.abs(values[name]).max()
        assert largest <= bound * (1 + 1e-6), name
        assert largest > (0.99 if values[name].size >= 800 else 0.7) * bound, name
        if values[name].size >= 800:
            assert values[name].std() == pytest.approx(bound / np.sqrt(3), rel=0.05), "of a uniform distribution"
    for name, value in values.items():
        if name.endswith("/bias"):
            np.testing.assert_array_equal(value, 0)
        if name.endswith("/slope"):
            np.testing.assert_array_equal(value, 0.25)


def test_unknown_initializer_is_refused_by_name():
    with pytest.raises(ValueError, match="'he'"):
        network.initializer("he")


# --- towers


def test_the_classifier_starts_around_a_ring_in_the_order_asked_for():
    tower(BLOG | SMALL | {"classifier_ring": (3, 0, 1, 2, 4, 5, 6, 7, 8, 9)})
    kernel = initial_values()["classifier/kernel"]
    assert kernel.shape == (2, 10)
    np.testing.assert_allclose(np.hypot(*kernel), 1, rtol=1e-6)
    np.testing.assert_allclose(kernel[:, 3], [1, 0], atol=1e-6)  # the first stands at angle 0
    turn = np.degrees(np.arctan2(kernel[1], kernel[0])) % 360
    np.testing.assert_allclose(turn[[0, 1, 2, 4, 9]], [36, 72, 108, 144, 324], rtol=1e-5)


def test_a_ring_of_too_few_classes_is_refused_by_name():
    with pytest.raises(ValueError, match=r"classifier_ring: expected 10 classes, got \[0, 1\]"):
        tower(BLOG | SMALL | {"classifier_ring": (0, 1)})


def test_towers_share_their_variables():
    tower(BLOG, training=True)
    before = shapes()
    updates = len(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
    tower(BLOG, training=False)
    assert shapes() == before
    assert updates == 12, "mean and variance of six layers"
    assert len(tf.get_collection(tf.GraphKeys.UPDATE_OPS)) == 12, "evaluation makes none"


def test_evaluation_first_makes_the_same_variables():
    tower(BLOG, training=False)
    assert tf.get_collection(tf.GraphKeys.UPDATE_OPS) == []
    first = shapes()
    with tf.Graph().as_default():
        tower(BLOG, training=True)
        assert shapes() == first


def test_without_batch_norm_the_towers_are_equal():
    outputs = [tower(PAPER | SMALL, training=training) for training in (True, False)]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        training, evaluation = session.run(outputs)
    np.testing.assert_array_equal(training.features, evaluation.features)
    assert np.abs(training.features).max() > 0.01


def test_evaluation_uses_the_moving_averages():
    options = BLOG | SMALL | {"batch_norm_decay": 0.0, "feature_activation": "linear"}
    # With decay 0 the moving averages become those of the batch. The moving variance is the unbiased one, by
    # N / (N − 1), which of 64 · 49 positions in the smallest layer is nearly 1.
    images = np.random.default_rng(1).random((64, 28, 28), np.float32)
    training, evaluation = tower(options, training=True, images=images), tower(options, images=images)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        seen, fresh = session.run([training.features, evaluation.features])
        scale = np.abs(seen).max()
        assert np.abs(fresh - seen).max() > 0.1 * scale, "fresh moving averages are not the batch's"
        session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        np.testing.assert_allclose(session.run(evaluation.features), seen, atol=0.005 * scale)


def test_evaluation_does_not_depend_on_the_rest_of_the_batch():
    with tf.Session() as session:
        whole, alone = tower(BLOG | SMALL), tower(BLOG | SMALL, images=IMAGES[:1])
        session.run(tf.global_variables_initializer())
        np.testing.assert_allclose(session.run(alone.logits), session.run(whole.logits)[:1], rtol=1e-4, atol=1e-4)


# --- batch norm


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_normalize_against_numpy(dtype):
    x = np.random.default_rng(2).normal(3.0, 2.0, size=(5, 4, 3, 2)).astype(dtype)
    exact = x.astype(np.float64)
    y = network.normalize(tf.constant(x), "norm", decay=0.9, training=True)
    evaluated = network.normalize(tf.constant(x), "norm", decay=0.9, training=False)
    assert y.dtype == evaluated.dtype == dtype
    moving = {v.op.name: v for v in tf.global_variables()}
    mean, variance = np.array([0.5, -1.0]), np.array([2.0, 0.25])
    scale, offset = np.array([1.5, -2.0]), np.array([0.1, 10.0])
    rtol = 1e-5 if dtype == "float32" else 2**-7
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        start = {"moving_mean": mean, "moving_variance": variance, "scale": scale, "offset": offset}
        for name, value in start.items():
            moving[f"norm/{name}"].load(value.astype(np.float32), session)
        batch_mean, batch_variance = exact.mean(axis=(0, 1, 2)), exact.var(axis=(0, 1, 2))
        expected = scale * (exact - batch_mean) / np.sqrt(batch_variance + 0.001) + offset
        np.testing.assert_allclose(session.run(y).astype(np.float64), expected, rtol=rtol, atol=4 * rtol)
        expected = scale * (exact - mean) / np.sqrt(variance + 0.001) + offset
        np.testing.assert_allclose(session.run(evaluated).astype(np.float64), expected, rtol=rtol, atol=4 * rtol)
        for _ in range(2):
            session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
            mean = 0.9 * mean + 0.1 * batch_mean
            variance = 0.9 * variance + 0.1 * exact.var(axis=(0, 1, 2), ddof=1)
            np.testing.assert_allclose(session.run(moving["norm/moving_mean"]), mean, rtol=1e-5)
            np.testing.assert_allclose(session.run(moving["norm/moving_variance"]), variance, rtol=1e-5)


def test_update_ops_of_the_network_move_by_its_decay():
    tower(BLOG | SMALL, training=True)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        variables = {v.op.name.removeprefix("lenet/"): v for v in tf.global_variables()}
        kernel = session.run(variables["conv1a/kernel"]).astype(np.float64)  # [5, 5, 1, 3]
        session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        mean, variance = session.run([variables["norm1a/moving_mean"], variables["norm1a/moving_variance"]])
    padded = np.pad(IMAGES.astype(np.float64), ((0, 0), (2, 2), (2, 2)))
    y = sum(
        padded[:, row : row + 28, column : column + 28, None] * kernel[row, column, 0]
        for row in range(5)
        for column in range(5)
    )
    np.testing.assert_allclose(mean, 0.001 * y.mean(axis=(0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(variance - 1, 0.001 * (y.var(axis=(0, 1, 2), ddof=1) - 1), rtol=1e-3, atol=1e-6)


# --- layers


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(4, 3, 2, 3), (7, 3)])
def test_prelu_and_its_gradients_against_the_formula(dtype, shape):
    random = np.random.default_rng(3)
    slope = np.array([-0.7, 0.0, 0.3], np.float32)
    x = random.normal(size=shape).astype(dtype)
    dy = random.normal(size=shape).astype(dtype)
    assert (x < 0).any()
    assert (x > 0).any()
    placed = tf.constant(x)
    y = network.prelu(placed, "prelu", start=0.0)
    (variable,) = tf.trainable_variables()
    assert variable.op.name == "prelu/slope"
    dx, da = tf.gradients(y, [placed, variable], tf.constant(dy))
    assert y.dtype == dx.dtype == dtype
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        variable.load(slope, session)
        got, got_dx, got_da = session.run([y, dx, tf.convert_to_tensor(da)])
    x, dy, a = x.astype(np.float64), dy.astype(np.float64), slope.astype(np.float64)
    rtol = 1e-6 if dtype == "float32" else 2**-7  # a slope and a product rounded to 8 bits
    np.testing.assert_allclose(got.astype(np.float64), np.maximum(0, x) + a * np.minimum(0, x), rtol=rtol)
    np.testing.assert_allclose(got_dx.astype(np.float64), dy * np.where(x > 0, 1, a), rtol=rtol)
    # Products of bfloat16 numbers are exact in float32, and so is the sum of these few to its rounding.
    summed = (dy * np.minimum(0, x)).reshape(-1, 3)
    np.testing.assert_allclose(got_da, summed.sum(axis=0), rtol=1e-5, atol=1e-6 * np.abs(summed).sum())


def test_prelu_at_zero():
    placed = tf.zeros([2, 3])
    y = network.prelu(placed, "prelu", start=0.25)
    dx, da = tf.gradients(y, [placed, tf.trainable_variables()[0]])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        got = session.run([y, dx, tf.convert_to_tensor(da)])
    np.testing.assert_array_equal(got[0], np.zeros((2, 3)))
    assert np.isin(got[1], [0.25, 1.0]).all(), "one of the two one-sided slopes, not their sum"
    np.testing.assert_array_equal(got[2], np.zeros(3))


def test_slope_gradient_of_many_bfloat16_terms_is_summed_in_float32():
    x = np.full((4096, 1), -1.0, ml_dtypes.bfloat16)  # summed in bfloat16 it would stop at 256
    y = network.prelu(tf.constant(x), "prelu", start=0.5)
    gradient = tf.convert_to_tensor(tf.gradients(y, tf.trainable_variables())[0])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert session.run(gradient).tolist() == [-4096.0]


def test_conv_and_dense_against_numpy():
    random = np.random.default_rng(4)
    x = random.normal(size=(2, 6, 5, 3)).astype(np.float32)
    flat = random.normal(size=(4, 7)).astype(np.float32)
    init = network.initializer("xavier")
    conv = network.conv(tf.constant(x), "conv", 4, init=init, bias=True)
    dense = network.dense(tf.constant(flat), "dense", 5, init=init, bias=True)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        value = {v.op.name: v for v in tf.global_variables()}
        value["conv/bias"].load(np.arange(4, dtype=np.float32), session)
        value["dense/bias"].load(np.arange(5, dtype=np.float32), session)
        value = session.run(value)
        got_conv, got_dense = session.run([conv, dense])
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))  # [B, H, W, K, 5, 5]
    expected = np.einsum("bhwkij,ijkc->bhwc", windows, value["conv/kernel"]) + value["conv/bias"]
    np.testing.assert_allclose(got_conv, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got_dense, flat @ value["dense/kernel"] + value["dense/bias"], rtol=1e-5, atol=1e-5)


def test_logits_are_the_classifier_of_the_features():
    out = tower(BLOG | SMALL | {"prelu_start": 0.25})
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        features, logits = session.run(out)
        value = session.run({v.op.name: v for v in tf.global_variables()})
    expected = features @ value["lenet/classifier/kernel"] + value["lenet/classifier/bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


# --- precision


@pytest.mark.parametrize("options", [BLOG | {"feature_activation": "linear"}, PAPER], ids=["blog, linear", "paper"])
@pytest.mark.parametrize("training", [True, False])
def test_bfloat16_is_close_and_leaves_the_features_float32(options, training):
    options = options | SMALL
    images = np.random.default_rng(5).random((50, 28, 28), np.float32)
    exact = tower(options, training=training, images=images)
    rounded = tower(options | {"precision": "bfloat16"}, training=training, images=images)
    assert rounded.features.dtype == rounded.logits.dtype == tf.float32
    assert {v.dtype for v in tf.global_variables()} == {tf.float32}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        expected, got = session.run([exact.features, rounded.features])
    as_bfloat16 = got.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert (got != as_bfloat16).mean() > 0.9, "features off the grid of bfloat16"
    assert not np.array_equal(got, expected), "bfloat16 was at work"
    np.testing.assert_allclose(got, expected, atol=0.05 * np.abs(expected).max())


def test_convolutions_run_in_the_asked_precision():
    for precision in ("float32", "bfloat16"):
        with tf.Graph().as_default() as graph:
            tower(BLOG | SMALL | {"precision": precision}, training=True)
            operations = graph.get_operations()
        assert {op.outputs[0].dtype for op in operations if op.type == "Conv2D"} == {tf.as_dtype(precision)}
        assert {op.outputs[0].dtype for op in operations if op.type == "MatMul"} == {tf.float32}
        assert sum(op.type == "Conv2D" for op in operations) == 6


@pytest.mark.parametrize("size", [2, 3])
def test_pools_are_the_asked_ones(size):
    tower(BLOG | SMALL | {"third_pool_size": size})
    pools = [op for op in tf.get_default_graph().get_operations() if op.type == "MaxPool"]
    assert [op.get_attr("ksize") for op in pools] == [[1, n, n, 1] for n in (2, 2, size)]
    assert [op.get_attr("strides") for op in pools] == [[1, 2, 2, 1]] * 3
    assert {op.get_attr("padding") for op in pools} == {b"VALID"}
    assert [tuple(op.outputs[0].shape[1:3]) for op in pools] == [(14, 14), (7, 7), (3, 3)]


def test_importing_flips_no_switch(run_script):
    done = run_script("-c", "import network, tensorflow as tf; assert tf.executing_eagerly()")
    assert done.returncode == 0, done.stderr
