"""Whether TensorFlow convolves in bfloat16 on this processor."""

from __future__ import annotations

import re

import numpy as np
import tensorflow.compat.v1 as tf

SECONDS = 10  # for one small convolution, which takes milliseconds where it runs


def bfloat16_problem() -> str | None:
    """Why a convolution in bfloat16, forward and backward, does not run here; None if it does.

    It is tried, since a processor's flags are not all that decides: TensorFlow's kernels may be told to leave
    instructions out.
    """
    with tf.Graph().as_default():
        image = tf.placeholder(tf.float32, [2, 8, 8, 4])  # fed: constants would be folded
        kernel = tf.placeholder(tf.float32, [5, 5, 4, 8])
        y = tf.nn.conv2d(tf.cast(image, tf.bfloat16), tf.cast(kernel, tf.bfloat16), strides=1, padding="SAME")
        config = tf.ConfigProto(operation_timeout_in_ms=1000 * SECONDS)
        with tf.Session(config=config) as session:
            feed = {image: np.ones(image.shape, np.float32), kernel: np.ones(kernel.shape, np.float32)}
            try:
                session.run([tf.cast(y, tf.float32), *tf.gradients(y, [image, kernel])], feed)
            except tf.errors.OpError as error:
                reason = re.search(r"message: (.*?)[.,;]? (?:Run workload|, in file)|$", error.message)[1]
                return reason or error.message.partition("\n")[0]
    return None
