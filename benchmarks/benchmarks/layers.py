"""Layers of published networks, by name.

The networks are those of Krizhevsky et al. 2012 (AlexNet), Simonyan and Zisserman 2014 (VGG-16), He et al. 2015
(ResNet-50), Howard et al. 2017 (MobileNet v1) and LeCun et al. 1998 (LeNet-5); ``basic`` is a small teaching network on
images of 32 x 32.
"""

import math
from typing import NamedTuple

Shape = tuple[int, ...]


class ConvLayer(NamedTuple):
    """A convolution with as many axes as ``size``; an int stands for all of them."""

    name: str
    batch: int
    in_channels: int
    size: Shape
    out_channels: int
    kernel: int | Shape
    stride: int = 1
    padding: int | Shape = 0
    groups: int = 1
    dilation: int = 1

    def _on_axes(self, value: int | Shape) -> Shape:
        return (value,) * len(self.size) if isinstance(value, int) else value

    @property
    def function(self) -> str:
        """The name of the forward pass."""
        return f"conv{len(self.size)}d"

    @property
    def input_shape(self) -> Shape:
        return self.batch, self.in_channels, *self.size

    @property
    def weight_shape(self) -> Shape:
        return self.out_channels, self.in_channels // self.groups, *self._on_axes(self.kernel)

    @property
    def output_shape(self) -> Shape:
        axes = zip(self.size, self._on_axes(self.padding), self._on_axes(self.kernel), strict=True)
        sizes = ((n + 2 * pad - self.dilation * (k - 1) - 1) // self.stride + 1 for n, pad, k in axes)
        return self.batch, self.out_channels, *sizes

    @property
    def flops(self) -> int:
        """Multiplications and additions of one pass; the three passes have the same number."""
        return 2 * math.prod(self.output_shape) * math.prod(self.weight_shape[1:])

    @property
    def depthwise(self) -> bool:
        return self.groups == self.in_channels > 1

    @property
    def options(self) -> dict[str, int | Shape]:
        """The keyword arguments of the forward pass."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}


CONV_LAYERS = (
    ConvLayer("basic.conv1", 32, 3, (32, 32), 50, 3),
    ConvLayer("basic.conv2", 32, 50, (30, 30), 100, 3),
    ConvLayer("alex.conv1", 4, 3, (227, 227), 96, 11, stride=4),
    ConvLayer("alex.conv2", 4, 96, (27, 27), 256, 5, padding=2, groups=2),
    ConvLayer("alex.conv3", 4, 256, (13, 13), 384, 3, padding=1),
    ConvLayer("alex.conv4", 4, 384, (13, 13), 384, 3, padding=1, groups=2),
    ConvLayer("alex.conv5", 4, 384, (13, 13), 256, 3, padding=1, groups=2),
    ConvLayer("vgg.conv1_1", 1, 3, (224, 224), 64, 3, padding=1),
    ConvLayer("vgg.conv1_2", 1, 64, (224, 224), 64, 3, padding=1),
    ConvLayer("vgg.conv3_2", 1, 256, (56, 56), 256, 3, padding=1),
    ConvLayer("vgg.conv4_2", 1, 512, (28, 28), 512, 3, padding=1),
    ConvLayer("vgg.conv5_1", 1, 512, (14, 14), 512, 3, padding=1),
    ConvLayer("res.conv1", 4, 3, (224, 224), 64, 7, stride=2, padding=3),
    ConvLayer("res.2.3x3", 4, 64, (56, 56), 64, 3, padding=1),
    ConvLayer("res.2.1x1", 4, 64, (56, 56), 256, 1),
    ConvLayer("res.3.3x3s2", 4, 128, (56, 56), 128, 3, stride=2, padding=1),
    ConvLayer("res.4.3x3", 4, 256, (14, 14), 256, 3, padding=1),
    ConvLayer("res.5.3x3", 4, 512, (7, 7), 512, 3, padding=1),
    ConvLayer("res.5.1x1", 4, 512, (7, 7), 2048, 1),
    ConvLayer("mob.dw112", 4, 32, (112, 112), 32, 3, padding=1, groups=32),
    ConvLayer("mob.dw56s2", 4, 128, (56, 56), 128, 3, stride=2, padding=1, groups=128),
    ConvLayer("mob.dw14", 4, 512, (14, 14), 512, 3, padding=1, groups=512),
    ConvLayer("mob.pw14", 4, 512, (14, 14), 512, 1),
    ConvLayer("lenet.conv1.n1", 1, 1, (28, 28), 6, 5, padding=2),
    ConvLayer("lenet.conv2.n64", 64, 6, (14, 14), 16, 5),
    # Groups of 4 and 8 channels (ResNeXt-50, Xie et al. 2016), and of 16.
    ConvLayer("next.2.g32", 4, 128, (56, 56), 128, 3, padding=1, groups=32),
    ConvLayer("next.3.g32", 4, 256, (28, 28), 256, 3, padding=1, groups=32),
    ConvLayer("next.3.g32s2", 4, 256, (56, 56), 256, 3, stride=2, padding=1, groups=32),
    ConvLayer("next.4.g32", 4, 512, (14, 14), 512, 3, padding=1, groups=32),
    # Dilation (DeepLab, Chen et al. 2017).
    ConvLayer("atrous.d2", 1, 256, (33, 33), 256, 3, padding=2, dilation=2),
    ConvLayer("atrous.d12", 1, 64, (65, 65), 64, 3, padding=12, dilation=12),
    # Kernels along one axis (Inception-v3, Szegedy et al. 2015).
    ConvLayer("inception.1x7", 4, 128, (17, 17), 128, (1, 7), padding=(0, 3)),
    ConvLayer("inception.7x1", 4, 128, (17, 17), 192, (7, 1), padding=(3, 0)),
    ConvLayer("inception.1x3", 4, 384, (8, 8), 384, (1, 3), padding=(0, 1)),
    # Channels that no vector divides.
    ConvLayer("odd.17", 8, 17, (32, 32), 23, 3, padding=1),
    ConvLayer("odd.50", 8, 50, (28, 28), 100, 5),
    ConvLayer("odd.97", 4, 97, (20, 20), 101, 1),
    # Depthwise with large kernels (ConvNeXt, Liu et al. 2022).
    ConvLayer("convnext.dw7", 4, 96, (56, 56), 96, 7, padding=3, groups=96),
    # One axis: speech (Jasper, Li et al. 2019), a first layer on a raw waveform, a long filter.
    ConvLayer("speech.11", 8, 256, (400,), 256, 11, padding=5),
    ConvLayer("speech.wave", 4, 1, (16000,), 64, 400, stride=160),
    ConvLayer("signal.256", 4, 16, (8192,), 16, 256),
    # Three axes: video (C3D, Tran et al. 2015).
    ConvLayer("video.1", 1, 3, (16, 112, 112), 64, 3, padding=1),
    ConvLayer("video.3", 1, 128, (8, 28, 28), 256, 3, padding=1),
)


class PoolLayer(NamedTuple):
    """A two-dimensional pooling with a square window."""

    name: str
    input_shape: Shape
    kernel: int
    stride: int
    padding: int = 0

    @property
    def output_shape(self) -> Shape:
        batch, channels, *sizes = self.input_shape
        return batch, channels, *((size + 2 * self.padding - self.kernel) // self.stride + 1 for size in sizes)


POOL_LAYERS = (
    PoolLayer("alex.pool1", (4, 96, 55, 55), 3, 2),
    PoolLayer("vgg.pool1", (1, 64, 224, 224), 2, 2),
    PoolLayer("vgg.pool4", (1, 512, 28, 28), 2, 2),
    PoolLayer("res.pool1", (4, 64, 112, 112), 3, 2, padding=1),
    PoolLayer("lenet.pool1", (64, 6, 28, 28), 2, 2),
)

# Inputs of a pooling over everything: the last map of ResNet-50 and of the small network.
GLOBAL_POOL_LAYERS = {"res.global": (4, 2048, 7, 7), "basic.global": (32, 100, 28, 28)}

# Inputs of an activation.
ACTIVATION_LAYERS = {"vgg.relu1": (1, 64, 224, 224), "res.relu4": (4, 256, 14, 14), "lenet.relu1": (1, 6, 28, 28)}

# Rows and classes of a softmax.
LOSS_LAYERS = {"digits": (64, 10), "imagenet": (128, 1000)}


class LinearLayer(NamedTuple):
    """A dense layer."""

    name: str
    batch: int
    in_features: int
    out_features: int

    @property
    def flops(self) -> int:
        return 2 * self.batch * self.in_features * self.out_features


LINEAR_LAYERS = (
    LinearLayer("64.4096.4096", 64, 4096, 4096),
    LinearLayer("1024.1024.1024", 1024, 1024, 1024),
    LinearLayer("basic.fc", 32, 100, 1000),
    LinearLayer("alex.fc6", 16, 9216, 4096),
    LinearLayer("res.fc", 64, 2048, 1000),
    LinearLayer("lenet.fc1", 64, 400, 120),
)

# Transposed convolutions, as the convolutions that they reverse: the result of each is the ``x`` of the other.
CONV_TRANSPOSE_LAYERS = (
    ConvLayer("256-128.k2.s2", 1, 128, (208, 208), 256, 2, 2),
    ConvLayer("128-64.k4.s2", 8, 64, (64, 64), 128, 4, 2, 1),
    ConvLayer("64-64.k3.s1", 1, 64, (56, 56), 64, 3, 1, 1),
)
