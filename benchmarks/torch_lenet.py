"""LeNet++ in PyTorch, for the scripts that compare with it."""

import numpy as np
import torch
from torch import nn


def lenet(*, batch_norm: bool, prelu_start: float) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Convolutional stages, 2-D feature layer with its PReLU, classifier; channels last.

    Args:
        batch_norm: after each convolution, in TensorFlow's epsilon and the blog's decay; without it a bias.
        prelu_start: first slope of each PReLU, one a channel.
    """
    layers, last = [], 1
    for width in (32, 64, 128):
        for _ in "ab":
            layers.append(nn.Conv2d(last, width, 5, padding=2, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(width, eps=0.001, momentum=0.001))
            layers.append(nn.PReLU(width, init=prelu_start))
            last = width
        layers.append(nn.MaxPool2d(2, 2))
    trunk = nn.Sequential(*layers, nn.Flatten()).to(memory_format=torch.channels_last)
    return trunk, nn.Sequential(nn.Linear(3 * 3 * 128, 2), nn.PReLU(2, init=prelu_start)), nn.Linear(2, 10)


def scaled(images: np.ndarray, mean: float = 0.0, deviation: float = 1.0) -> torch.Tensor:
    """[B, 28, 28] uint8 as [B, 1, 28, 28] float32, channels last: (pixel / 255 − mean) / deviation."""
    x = (torch.from_numpy(images)[:, None].float() / 255.0 - mean) / deviation
    return x.contiguous(memory_format=torch.channels_last)
