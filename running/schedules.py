"""Numbers as functions of the training step, as graph ops on the scalar `step` (steps done so far)."""

import math
from collections.abc import Sequence

import tensorflow.compat.v1 as tf


def warm_up(step: tf.Tensor, value: float, warmup_steps: int, power: float) -> tf.Tensor:
    """0 at step 0, rising as step ** `power` to `value` at `warmup_steps` and staying there; float32 scalar."""
    if warmup_steps == 0:
        return tf.constant(value, tf.float32)
    return value * tf.minimum(tf.cast(step, tf.float32) / warmup_steps, 1.0) ** power


def one_cycle(step: tf.Tensor, peak: float, steps: int, rise: float) -> tf.Tensor:
    """One cycle of half cosines (Smith, "Super-Convergence", 2017): peak / 25 to peak to peak / 10,000.

    Args:
        step: integer scalar, steps done.
        peak: the highest rate.
        steps: length of the whole cycle; after it the rate stays at its end.
        rise: the part of `steps`, in [0, 1], that the rise takes.
    """
    done = tf.minimum(tf.cast(step, tf.float32), float(steps))
    top = rise * steps

    def half_cosine(start: float, end: float, part: tf.Tensor) -> tf.Tensor:
        return end + (start - end) * 0.5 * (1.0 + tf.cos(math.pi * part))

    rising = half_cosine(peak / 25, peak, done / max(top, 1.0))
    falling = half_cosine(peak, peak / 1e4, (done - top) / max(steps - top, 1.0))
    return tf.where_v2(done < top, rising, falling)


def multi_step(step: tf.Tensor, first: float, at: Sequence[int], factor: float) -> tf.Tensor:
    """`first`, multiplied by `factor` at each of the steps `at`; float32 scalar."""
    drops = tf.reduce_sum(tf.cast(tf.cast(step, tf.int64) >= tf.constant(list(at), tf.int64), tf.float32))
    return first * tf.pow(tf.constant(factor, tf.float32), drops)


def learning_rate(
    step: tf.Tensor,
    kind: str,
    rate: float,
    *,
    steps: int,
    one_cycle_rise: float,
    multi_step_at: Sequence[int],
    multi_step_factor: float,
) -> tf.Tensor:
    """The rate by the schedule `kind`: constant, or by the function `one_cycle` or `multi_step`; float32 scalar."""
    if kind == "one_cycle":
        return one_cycle(step, rate, steps, one_cycle_rise)
    if kind == "multi_step":
        return multi_step(step, rate, multi_step_at, multi_step_factor)
    return tf.constant(rate, tf.float32)
