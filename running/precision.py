"""In which precision TensorFlow convolves on this processor."""

import re

import numpy as np
import tensorflow.compat.v1 as tf

from running import machine

SECONDS = 10  # for one small convolution, which takes milliseconds where it runs


class PrecisionError(Exception):
    """The processor can't do what was asked for. The message says why, and what to ask for instead."""


def fastest() -> str:
    """bfloat16 if the processor multiplies it in hardware, by AMX or AVX512-BF16 (read on Linux), else float32."""
    flags = (machine.cpu("flags") or "").split()
    return "bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def resolve_precision(wanted: str) -> tuple[str, str | None]:
    """The precision to train in, for `wanted`: float32, bfloat16, or auto for the fastest. And what to know of it.

    Raises:
        PrecisionError: if bfloat16 is wanted and does not run here.
    """
    precision = fastest() if wanted == "auto" else wanted
    problem = bfloat16_problem() if precision == "bfloat16" else None
    if problem is None:
        slow = precision == "bfloat16" and fastest() == "float32"
        return precision, "this processor computes bfloat16 in software, slower than float32" if slow else None
    if wanted != "auto":
        raise PrecisionError(f"precision: bfloat16 does not run here ({problem}); ask for auto or float32")
    return "float32", f"precision float32, since bfloat16 does not run here ({problem})"


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
