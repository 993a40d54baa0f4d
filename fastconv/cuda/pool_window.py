"""What all poolings by windows ask: where an element is, and which elements a window covers.

Kernels get a :class:`fastconv._window.Window` as it is, a tuple of triples of ints.
"""

from __future__ import annotations

from fastconv.cuda._jit import device, types, u32

i64 = types.int64


@device
def place_of(i, channels, size, channels_last):
    """Plane and position of the i-th element of (N, C, *size) in memory: (n, c, z, y, x, start of plane, step)."""
    depth, height, width = u32(size[0]), u32(size[1]), u32(size[2])
    plane = u32(u32(depth * height) * width)
    if channels_last:
        rest = u32(i // u32(channels))
        channel = u32(i - u32(rest * u32(channels)))
        image = u32(rest // plane)
        position = u32(rest - u32(image * plane))
    else:
        rest = u32(i // plane)
        position = u32(i - u32(rest * plane))
        image = u32(rest // u32(channels))
        channel = u32(rest - u32(image * u32(channels)))
    line = u32(position // width)
    x = u32(position - u32(line * width))
    z = u32(line // height)
    y = u32(line - u32(z * height))
    return image, channel, position, z, y, x


@device
def plane_at(image, channel, channels, size, channels_last):
    """Where the plane of an image and a channel begins in (N, C, *size), and the step between its elements."""
    plane = u32(u32(u32(size[0]) * u32(size[1])) * u32(size[2]))
    if channels_last:
        return u32(u32(u32(image * plane) * u32(channels)) + channel), u32(channels)
    return u32(u32(u32(image * u32(channels)) + channel) * plane), u32(1)


@device
def counted(o, axis, window, count_include_pad):
    """How many elements of the o-th window on an axis count for an average."""
    dilation, kernel = u32(window.dilation[axis]), i64(window.kernel_size[axis])
    size = i64(window.input_size[axis])
    start = i64(o) * i64(window.stride[axis]) - i64(window.padding_before[axis])
    end = size + i64(window.padding_after[axis]) if count_include_pad else size
    last = i64(0)
    if start < end:
        last = min(kernel, i64(u32(end - start - i64(1)) // dilation) + i64(1))
    first = i64(0)
    if start < i64(0) and not count_include_pad:
        first = i64(u32(dilation + u32(-start - i64(1))) // dilation)
    return max(last - first, i64(0))
