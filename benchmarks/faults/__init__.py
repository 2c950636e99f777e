"""What a run survives: real trainings that are killed, signalled, starved of disk, and fed damaged files."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before TensorFlow, which reads it while it is imported
