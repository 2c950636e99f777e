"""What a run survives: real trainings that are killed, signalled and starved of disk, or diverge."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before TensorFlow, which reads it while it is imported
