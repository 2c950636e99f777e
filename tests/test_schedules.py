"""The learning rate and lambda at given steps, against numbers worked by hand."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from running import schedules

PEAK = 0.006


def at(steps, schedule, *arguments):
    """Values of a schedule at `steps`, run in a graph with an int64 step, as a global step is."""
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.placeholder(tf.int64, [])
        value = schedule(step, *arguments)
        assert value.dtype == tf.float32
        assert value.shape == ()
        return [float(session.run(value, {step: number})) for number in steps]


def test_warm_up_rises_linearly_and_stays():
    got = at([0, 1, 120, 240, 479, 480, 481, 10**9], schedules.warm_up, 0.01, 480, 1.0)
    assert got == pytest.approx([0, 0.01 / 480, 0.0025, 0.005, 0.01 * 479 / 480, 0.01, 0.01, 0.01], rel=1e-6)
    assert got[0] == 0.0


def test_warm_up_by_a_power_of_the_step():
    got = at([0, 120, 240, 480, 10**9], schedules.warm_up, 0.01, 480, 3.0)
    assert got == pytest.approx([0, 0.01 / 64, 0.01 / 8, 0.01, 0.01], rel=1e-6)


def test_warm_up_over_no_steps_is_the_value_from_the_start():
    assert at([0, 1, 16_000], schedules.warm_up, 0.01, 0, 3.0) == [np.float32(0.01)] * 3


def test_the_learning_rate_is_by_the_kind_of_schedule():
    steps = [0, 300, 1000, 16_000]

    def rates(kind):
        def schedule(step):
            return schedules.learning_rate(
                step, kind, 0.001, steps=1000, one_cycle_rise=0.3, multi_step_at=[300], multi_step_factor=0.5
            )

        return at(steps, schedule)

    assert rates("constant") == [np.float32(0.001)] * 4
    assert rates("one_cycle") == pytest.approx([4e-5, 1e-3, 1e-7, 1e-7], rel=1e-2)
    assert rates("multi_step") == pytest.approx([1e-3, 5e-4, 5e-4, 5e-4])


def test_one_cycle_at_its_corners():
    start, top, end, after = at([0, 300, 1000, 5000], schedules.one_cycle, PEAK, 1000, 0.3)
    assert start == pytest.approx(PEAK / 25, rel=1e-5)
    assert top == pytest.approx(PEAK, rel=1e-6)
    assert end == pytest.approx(PEAK / 10_000, rel=1e-3)  # a difference of float32 numbers near the peak
    assert after == end


def test_one_cycle_between_its_corners():
    # Half a cosine is at the middle of its ends halfway, and at cos 60° = 1/2, a quarter from its start, after a third.
    low, end = PEAK / 25, PEAK / 10_000
    steps = [100, 150, 600, 700]
    third_up, half_up, half_down, two_thirds_down = at(steps, schedules.one_cycle, PEAK, 900, 1 / 3)
    assert third_up == pytest.approx(low + (PEAK - low) / 4, rel=1e-5)
    assert half_up == pytest.approx((low + PEAK) / 2, rel=1e-5)
    assert half_down == pytest.approx((PEAK + end) / 2, rel=1e-5)
    assert two_thirds_down == pytest.approx(end + (PEAK - end) / 4, rel=1e-5)


def test_one_cycle_rises_to_its_top_and_falls_after_it():
    values = at(range(0, 101, 5), schedules.one_cycle, 1.0, 100, 0.3)
    assert np.all(np.diff(values[:7]) > 0)
    assert np.all(np.diff(values[6:]) < 0)


def test_one_cycle_without_rise_or_fall():
    assert at([0, 100], schedules.one_cycle, 1.0, 100, 0.0) == pytest.approx([1.0, 1e-4], rel=1e-3)
    assert at([0, 50, 100], schedules.one_cycle, 1.0, 100, 1.0) == pytest.approx([0.04, 0.52, 1.0], rel=1e-5)
    assert at([0, 1], schedules.one_cycle, 1.0, 1, 0.5) == pytest.approx([0.04, 1e-4], abs=0.5), "finite for one step"


def test_multi_step_is_the_papers():
    steps = [0, 4_999, 5_000, 7_999, 8_000, 9_999, 10_000, 12_000]
    got = at(steps, schedules.multi_step, 0.01, (5_000, 8_000, 10_000), 0.8)
    assert got == pytest.approx([0.01, 0.01, 0.008, 0.008, 0.0064, 0.0064, 0.00512, 0.00512], rel=1e-6)


def test_multi_step_without_drops_and_to_zero():
    assert at([0, 100], schedules.multi_step, 0.5, (), 0.8) == [0.5, 0.5]
    assert at([9, 10], schedules.multi_step, 0.5, [10], 0.0) == [0.5, 0.0]


def test_multi_step_tells_steps_apart_that_float32_does_not():
    drop = 2**24 + 1
    assert at([drop - 1, drop], schedules.multi_step, 1.0, [drop], 0.5) == [1.0, 0.5]
