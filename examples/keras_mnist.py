"""Center loss in Keras: five epochs of MNIST with two features, and how many test images their nearest center finds.

python examples/keras_mnist.py [EPOCHS] [DATASET]
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

from centerloss_keras import CenterLoss
from config import Config
from metrics import nearest_center
from mnist_data import load

EPOCHS, DATASET = int(sys.argv[1]) if sys.argv[1:] else 5, sys.argv[2] if sys.argv[2:] else "mnist"
BATCH = 100

keras.utils.set_random_seed(0)
data = load(DATASET, Config().data_dir)
train, test = ((split.images[..., np.newaxis] / np.float32(255), split.labels) for split in (data.train, data.test))

images, labels = keras.Input([28, 28, 1]), keras.Input([], dtype="int64")
x = layers.Cropping2D(4)(images)  # the outer pixels are nearly blank
for channels in (32, 64, 128):
    for _ in range(2):
        x = layers.Conv2D(channels, 5 if channels < 128 else 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.99)(x))
    x = layers.MaxPooling2D(2)(x)
features = layers.Dense(2, name="features")(layers.Flatten()(x))
center_loss = CenterLoss(num_classes=10, weight=0.1)
classifier = layers.Dense(10)

model = keras.Model([images, labels], classifier(center_loss([features, labels])))
steps = EPOCHS * -(-len(train[1]) // BATCH)
rate = keras.optimizers.schedules.CosineDecay(1e-4, steps * 4 // 5, 1e-5, warmup_target=3e-3, warmup_steps=steps // 5)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
model.fit(list(train), train[1], batch_size=BATCH, epochs=EPOCHS, verbose=2)

found = keras.Model(images, [features, classifier(features)])  # without labels
points, logits = found.predict(test[0], verbose=0)
by_softmax, by_center = logits.argmax(axis=1), nearest_center(points, center_loss.centers.numpy())
print(f"test: {np.mean(by_softmax == test[1]):.2%} by softmax, {np.mean(by_center == test[1]):.2%} by nearest center")
