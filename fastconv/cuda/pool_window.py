"""What all poolings by windows ask: where an element is, and which elements a window covers.

Kernels get a :class:`fastconv._window.Window` as it is, a tuple of triples of ints.
"""

from __future__ import annotations

from fastconv.cuda._jit import device, i64, u32, u64


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
def plane_of(plane, channels, size, channels_last):
    """The same for the planes of all images by their number; they have ``size`` elements."""
    if channels_last:
        image = u32(plane // u32(channels))
        channel = u32(plane - u32(image * u32(channels)))
        return u32(u32(u32(image * u32(size)) * u32(channels)) + channel), u32(channels)
    return u32(plane * u32(size)), u32(1)


@device
def reach_of(o, axis, window):
    """Where the o-th window on an axis begins, and the number of its taps.

    A kernel size of 0 means windows that share the axis: they go from floor(o n / m) to ceil((o + 1) n / m).
    """
    kernel = i64(window.kernel_size[axis])
    if kernel > i64(0):
        return i64(o) * window.stride[axis] - window.padding_before[axis], kernel
    size, number = u64(window.input_size[axis]), u64(window.output_size[axis])
    start = i64(u64(o) * size // number)
    return start, i64((u64(o) * size + size + number - u64(1)) // number) - start


@device
def coordinate(start, k, axis, window):
    """Where the k-th tap of a window lies; outside of the plane it is large as an unsigned number."""
    return u64(start + i64(k) * window.dilation[axis])


@device
def candidates(p, axis, window):
    """How many windows may cover position p of an axis."""
    if window.kernel_size[axis] > 0:
        return i64(window.kernel_size[axis])
    size, number = u64(window.input_size[axis]), u64(window.output_size[axis])
    return i64((u64(p) * number + number + size - u64(1)) // size) - i64(u64(p) * number // size)


@device
def candidate(p, k, axis, window):
    """The k-th of these windows, or -1: window o covers p with tap k where o stride + k dilation is p padded."""
    stride = window.stride[axis]
    if window.kernel_size[axis] == 0:
        return i64(u64(p) * u64(window.output_size[axis]) // u64(window.input_size[axis])) + i64(k)
    offset = i64(p) + window.padding_before[axis] - i64(k) * window.dilation[axis]
    o = i64(u32(u32(offset) // u32(stride)))
    return o if offset >= i64(0) and o * stride == offset and o < window.output_size[axis] else i64(-1)


@device
def counted(o, axis, window, count_include_pad):
    """How many elements of the o-th window on an axis count for an average."""
    start, taps = reach_of(o, axis, window)
    dilation, size = u32(window.dilation[axis]), i64(window.input_size[axis])
    end = size + window.padding_after[axis] if count_include_pad else size
    last, first = i64(0), i64(0)
    if start < end:
        last = min(taps, i64(u32(u32(end - start - i64(1)) // dilation)) + i64(1))
    if start < i64(0) and not count_include_pad:
        first = i64(u32(u32(dilation + u32(-start - i64(1))) // dilation))
    return max(last - first, i64(0))
