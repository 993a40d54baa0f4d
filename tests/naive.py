"""What every operation means: any rank, slow and obvious.

Arrays are ``(N, C, *spatial)`` with any number of spatial axes; there is no unbatched form, no memory order and no
``out=`` here. Floats are computed in float64 and integers in int64, exactly. Loops run over single window positions.
"""

from __future__ import annotations

import itertools

import numpy as np


def exact(x):
    """``x`` in the type that sums are formed in."""
    x = np.asarray(x)
    return x.astype(np.float64 if x.dtype.kind == "f" else np.int64)


# ------------------------------------------------------------------------------------------------------ sliding windows
def per_axis(value, count):
    """One int per spatial axis."""
    return (int(value),) * count if np.ndim(value) == 0 else tuple(int(item) for item in value)


def padding_pairs(padding, size, kernel, stride, dilation):
    """Every form of ``padding`` as one (before, after) pair per spatial axis."""
    if isinstance(padding, str):
        return [_padding_by_name(padding, *axis) for axis in zip(size, kernel, stride, dilation, strict=True)]
    if np.ndim(padding) == 2:
        return [(int(before), int(after)) for before, after in padding]
    return [(p, p) for p in per_axis(padding, len(size))]


def _padding_by_name(name, size, kernel, stride, dilation):
    """The fewest padded elements, as evenly as possible, that give ceil(size / stride) window positions."""
    if name == "valid":
        return 0, 0
    total = 0
    while (size + total - (dilation * (kernel - 1) + 1)) // stride + 1 < int(np.ceil(size / stride)):
        total += 1
    less, more = total // 2, total - total // 2
    return {"same": (less, more), "same_lower": (more, less)}[name]


def pad(x, pairs, value=0):
    """``x`` with ``value`` around its spatial axes."""
    return np.pad(x, [(0, 0), (0, 0), *pairs], constant_values=value)


def unpad(x, pairs):
    """The part of a padded array that lies inside the padding."""
    inside = (slice(before, length - after) for (before, after), length in zip(pairs, x.shape[2:], strict=True))
    return x[(slice(None), slice(None), *inside)]


def positions(size, pairs, kernel, stride, dilation):
    """For every window position its index in the output, and the slices of the padded input that it covers."""
    starts = []
    for length, (before, after), k, s, d in zip(size, pairs, kernel, stride, dilation, strict=True):
        starts.append(range(0, before + length + after - d * (k - 1), s))
    for index in itertools.product(*(range(len(axis)) for axis in starts)):
        begin = [axis[i] for axis, i in zip(starts, index, strict=True)]
        yield index, tuple(slice(b, b + d * (k - 1) + 1, d) for b, k, d in zip(begin, kernel, dilation, strict=True))


class Sliding:
    """The geometry of one call: pairs of padding, output size and window positions."""

    def __init__(self, size, kernel, stride=1, padding=0, dilation=1):
        stride, dilation = per_axis(stride, len(size)), per_axis(dilation, len(size))
        self.pairs = padding_pairs(padding, size, kernel, stride, dilation)
        self.positions = list(positions(size, self.pairs, kernel, stride, dilation))
        self.output_size = tuple(i + 1 for i in self.positions[-1][0]) if self.positions else None


# ---------------------------------------------------------------------------------------------------------- convolution
def group_slices(channels, groups):
    """The channels of each group."""
    width = channels // groups
    return [slice(g * width, (g + 1) * width) for g in range(groups)]


def conv_forward(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """y[n, o, p] = bias[o] + sum over c and k of padded[n, c, p * stride + k * dilation] * weight[o, c, k].

    ``c`` runs over the input channels of the group that ``o`` belongs to.
    """
    x, weight = exact(x), exact(weight)
    sliding = Sliding(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    padded = pad(x, sliding.pairs)
    y = np.zeros((len(x), len(weight), *sliding.output_size), np.result_type(x, weight))
    summed = tuple(range(1, x.ndim))
    for ins, outs in zip(group_slices(x.shape[1], groups), group_slices(len(weight), groups), strict=True):
        for index, window in sliding.positions:
            y[(slice(None), outs, *index)] = np.tensordot(
                padded[:, ins][(..., *window)], weight[outs], (summed, summed)
            )
    return y if bias is None else y + exact(bias).reshape(-1, *[1] * (x.ndim - 2))


def conv_backward_input(grad_out, weight, input_shape, stride=1, padding=0, dilation=1, groups=1):
    """Every output hands its gradient, times the weight, to the inputs that it was computed from."""
    grad_out, weight = exact(grad_out), exact(weight)
    sliding = Sliding(input_shape[2:], weight.shape[2:], stride, padding, dilation)
    grad_x = pad(np.zeros(input_shape, np.result_type(grad_out, weight)), sliding.pairs)
    for ins, outs in zip(group_slices(input_shape[1], groups), group_slices(len(weight), groups), strict=True):
        for index, window in sliding.positions:
            grad_x[:, ins][(..., *window)] += np.tensordot(grad_out[(slice(None), outs, *index)], weight[outs], 1)
    return unpad(grad_x, sliding.pairs)


def conv_backward_weight(grad_out, x, weight_shape, stride=1, padding=0, dilation=1, groups=1):
    """Every output hands its gradient, times the inputs that it was computed from, to the weights."""
    grad_out, x = exact(grad_out), exact(x)
    sliding = Sliding(x.shape[2:], weight_shape[2:], stride, padding, dilation)
    padded = pad(x, sliding.pairs)
    grad_weight = np.zeros(weight_shape, np.result_type(grad_out, x))
    for ins, outs in zip(group_slices(x.shape[1], groups), group_slices(weight_shape[0], groups), strict=True):
        for index, window in sliding.positions:
            grad_weight[outs] += np.tensordot(
                grad_out[(slice(None), outs, *index)].T, padded[:, ins][(..., *window)], 1
            )
    return grad_weight


def conv_backward_bias(grad_out):
    """Every output adds its channel's bias once."""
    return exact(grad_out).sum(axis=(0, *range(2, np.ndim(grad_out))))


def spread_positions(x, weight, result_size, stride, padding, dilation):
    """For every input of a transposed convolution its index, and the slices of the padded result that it adds to."""
    count = x.ndim - 2
    stride, dilation = per_axis(stride, count), per_axis(dilation, count)
    pairs = padding_pairs(padding, result_size, weight.shape[2:], stride, dilation)
    places = []
    for index in np.ndindex(x.shape[2:]):
        begin = [i * s for i, s in zip(index, stride, strict=True)]
        ends = [b + d * (k - 1) + 1 for b, d, k in zip(begin, dilation, weight.shape[2:], strict=True)]
        places.append((index, tuple(map(slice, begin, ends, dilation))))
    return pairs, places


def transposed_size(size, kernel, stride=1, padding=0, output_padding=0, dilation=1):
    """The last element that an input adds to, and output_padding more, less the padding."""
    count = len(size)
    stride, dilation, more = (per_axis(value, count) for value in (stride, dilation, output_padding))
    pairs = padding_pairs(padding, size, kernel, stride, dilation)
    return tuple(
        (n - 1) * s + d * (k - 1) + 1 + m - before - after
        for n, s, d, k, m, (before, after) in zip(size, stride, dilation, kernel, more, pairs, strict=True)
    )


def conv_transpose_forward(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Every input adds its value, times the kernel of its channel, to the results that it reaches."""
    x, weight = exact(x), exact(weight)
    size = transposed_size(x.shape[2:], weight.shape[2:], stride, padding, output_padding, dilation)
    pairs, places = spread_positions(x, weight, size, stride, padding, dilation)
    y = pad(np.zeros((len(x), weight.shape[1] * groups, *size), np.result_type(x, weight)), pairs)
    for ins, outs in zip(group_slices(len(weight), groups), group_slices(y.shape[1], groups), strict=True):
        for index, place in places:
            y[:, outs][(..., *place)] += np.tensordot(x[(slice(None), ins, *index)], weight[ins], 1)
    y = unpad(y, pairs)
    return y if bias is None else y + exact(bias).reshape(-1, *[1] * (x.ndim - 2))


def conv_transpose_backward(grad_out, x, weight, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Gradients of x, weight and bias: what every input reached, times the kernel or times the input."""
    grad_out, x, weight = exact(grad_out), exact(x), exact(weight)
    pairs, places = spread_positions(x, weight, grad_out.shape[2:], stride, padding, dilation)
    padded, summed = pad(grad_out, pairs), tuple(range(1, x.ndim))
    grad_x, grad_weight = np.zeros(x.shape), np.zeros(weight.shape)
    for ins, outs in zip(group_slices(len(weight), groups), group_slices(grad_out.shape[1], groups), strict=True):
        for index, place in places:
            reached = padded[:, outs][(..., *place)]
            grad_x[(slice(None), ins, *index)] = np.tensordot(reached, weight[ins], (summed, summed))
            grad_weight[ins] += np.tensordot(x[(slice(None), ins, *index)].T, reached, 1)
    return grad_x, grad_weight, conv_backward_bias(grad_out)


# ------------------------------------------------------------------------------------------------------------- pooling
def windows_on_axis(size, kernel, stride, before, after, dilation, ceil_mode):
    """The coordinates that each window covers, in and out of the input's 0 ... size - 1.

    With ``ceil_mode`` one more counts if the last one ends before the padded input does and it starts in the input.
    """
    windows, start, end, reach = [], -before, size + after, dilation * (kernel - 1) + 1
    while start + reach <= end or (ceil_mode and start - stride + reach < end and start < size):
        windows.append([start + dilation * tap for tap in range(kernel)])
        start += stride
    return windows


class Pooling:
    """The windows of one call: of each output the flat positions of its elements, and how many elements count."""

    def __init__(self, size, kernel, stride=None, padding=0, dilation=1, ceil_mode=False, count_include_pad=True):
        kernel, dilation = per_axis(kernel, len(size)), per_axis(dilation, len(size))
        stride = kernel if stride is None else per_axis(stride, len(size))
        pairs = padding_pairs(padding, size, kernel, stride, dilation)
        axes = [
            windows_on_axis(n, k, s, before, after, d, ceil_mode)
            for n, k, s, (before, after), d in zip(size, kernel, stride, pairs, dilation, strict=True)
        ]
        self.size, self.output_size = tuple(size), tuple(map(len, axes))
        self.elements, self.counts = {}, {}
        for index in itertools.product(*map(range, self.output_size)):
            window = list(itertools.product(*(axis[i] for axis, i in zip(axes, index, strict=True))))
            inside = [at for at in window if all(0 <= i < n for i, n in zip(at, size, strict=True))]
            within = [at for at in window if all(i < n + q for i, n, (_, q) in zip(at, size, pairs, strict=True))]
            self.elements[index] = [int(np.ravel_multi_index(at, size)) for at in inside]
            self.counts[index] = max(len(within if count_include_pad else inside), 1)


def flat_planes(x):
    """``x`` with one axis in place of the spatial ones."""
    return x.reshape(*x.shape[:2], int(np.prod(x.shape[2:])))


def max_pool_forward(x, *window):
    """The maximum of each window and its flat position: the first NaN, or else the first of the largest elements."""
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    x = exact(x) if x.dtype.kind == "f" else x
    pooling, planes = Pooling(x.shape[2:], *window), flat_planes(x)
    y = np.full((*x.shape[:2], *pooling.output_size), lowest, x.dtype)
    indices = np.zeros(y.shape, np.int64)
    for index, elements in pooling.elements.items():
        if elements:
            best = planes[:, :, elements].argmax(axis=2)  # the first NaN, where there is one
            indices[(..., *index)] = np.array(elements)[best]
            y[(..., *index)] = np.take_along_axis(planes, indices[(..., *index)][..., np.newaxis], 2)[..., 0]
    return y, indices


def max_pool_backward(grad_out, indices, input_shape):
    """Every output hands its gradient to the element that was its maximum."""
    grad_x = np.zeros(input_shape, exact(grad_out).dtype)
    for n, c, *index in np.ndindex(grad_out.shape):
        place = np.unravel_index(indices[(n, c, *index)], input_shape[2:])
        grad_x[(n, c, *place)] += grad_out[(n, c, *index)]
    return grad_x


def avg_pool_forward(x, kernel, stride, padding, dilation, ceil_mode, count_include_pad=True, divisor=None):
    """The sum of each window over a divisor, which is the number of its elements if none is given."""
    x = exact(x)
    pooling = Pooling(x.shape[2:], kernel, stride, padding, dilation, ceil_mode, count_include_pad)
    y = np.zeros((*x.shape[:2], *pooling.output_size))
    for index, elements in pooling.elements.items():
        y[(..., *index)] = flat_planes(x)[:, :, elements].sum(axis=2) / (divisor or pooling.counts[index])
    return y


def avg_pool_backward(
    grad_out, input_shape, kernel, stride, padding, dilation, ceil_mode, count_include_pad=True, divisor=None
):
    """Every output hands its gradient, over its divisor, to all elements of its window."""
    pooling = Pooling(input_shape[2:], kernel, stride, padding, dilation, ceil_mode, count_include_pad)
    grad_x = flat_planes(np.zeros(input_shape))
    for index, elements in pooling.elements.items():
        share = exact(grad_out)[(..., *index)] / (divisor or pooling.counts[index])
        grad_x[:, :, elements] += share[..., np.newaxis]
    return grad_x.reshape(input_shape)


def max_unpool_forward(x, indices, output_shape):
    """Zeros, but for the elements of x where their indices say, one after the other."""
    y = np.zeros(output_shape, x.dtype)
    for n, c, *index in np.ndindex(x.shape):
        y[(n, c, *np.unravel_index(indices[(n, c, *index)], output_shape[2:]))] = x[(n, c, *index)]
    return y


def max_unpool_backward(grad_out, indices):
    """Every element of x has the gradient of the element that it became."""
    return np.take_along_axis(flat_planes(grad_out), flat_planes(indices), 2).reshape(indices.shape)


def lp_pool_forward(x, p, kernel, stride, ceil_mode):
    """The p-th root of the sum of p-th powers; what a window covers beyond the input counts as its mean inside."""
    with np.errstate(all="ignore"):
        mean = avg_pool_forward(exact(x) ** p, kernel, stride, 0, 1, ceil_mode)
        return (mean * np.prod(per_axis(kernel, x.ndim - 2))) ** (1 / p)


def lp_pool_backward(grad_out, x, p, kernel, stride, ceil_mode):
    """Every output hands its gradient to its window's elements, times (x / y)^(p-1); nothing where y is 0."""
    x, y = exact(x), lp_pool_forward(x, p, kernel, stride, ceil_mode)
    pooling = Pooling(x.shape[2:], kernel, stride, 0, 1, ceil_mode)
    grad_x = flat_planes(np.zeros(x.shape))
    whole = np.prod(per_axis(kernel, x.ndim - 2))
    with np.errstate(all="ignore"):
        for index, elements in pooling.elements.items():
            norm, share = y[(..., *index)][..., np.newaxis], exact(grad_out)[(..., *index)][..., np.newaxis]
            slope = flat_planes(x)[:, :, elements] ** (p - 1) * norm ** (1 - p) * (whole / pooling.counts[index])
            grad_x[:, :, elements] += np.where(norm == 0, 0, share * slope)
    return grad_x.reshape(x.shape)


def shares(size, count):
    """The elements that each of ``count`` windows covers, which share ``size`` elements."""
    return [range(int(np.floor(i * size / count)), int(np.ceil((i + 1) * size / count))) for i in range(count)]


def shared_elements(size, output_size):
    """Of each adaptive window its index and the flat positions of its elements."""
    axes = [shares(n, m) for n, m in zip(size, output_size, strict=True)]
    for index in np.ndindex(*output_size):
        window = itertools.product(*(axis[i] for axis, i in zip(axes, index, strict=True)))
        yield index, [int(np.ravel_multi_index(at, size)) for at in window]


def adaptive_max_pool_forward(x, output_size):
    """The maximum of each window and its flat position."""
    y, indices = np.zeros((*x.shape[:2], *output_size), x.dtype), np.zeros((*x.shape[:2], *output_size), np.int64)
    for index, elements in shared_elements(x.shape[2:], output_size):
        best = flat_planes(x)[:, :, elements].argmax(axis=2)
        indices[(..., *index)] = np.array(elements)[best]
        y[(..., *index)] = np.take_along_axis(flat_planes(x)[:, :, elements], best[..., np.newaxis], 2)[..., 0]
    return y, indices


def adaptive_avg_pool_forward(x, output_size):
    """The mean of each window."""
    x = exact(x)
    y = np.zeros((*x.shape[:2], *output_size))
    for index, elements in shared_elements(x.shape[2:], output_size):
        y[(..., *index)] = flat_planes(x)[:, :, elements].mean(axis=2)
    return y


def adaptive_avg_pool_backward(grad_out, input_shape):
    """Every output hands its gradient, over the number of its elements, to all of them."""
    grad_x = flat_planes(np.zeros(input_shape))
    for index, elements in shared_elements(input_shape[2:], grad_out.shape[2:]):
        grad_x[:, :, elements] += exact(grad_out)[(..., *index)][..., np.newaxis] / len(elements)
    return grad_x.reshape(input_shape)


# --------------------------------------------------------------------------------------------------------------- linear
def linear_forward(x, weight, bias=None):
    """y[..., o] = bias[o] + sum over i of x[..., i] * weight[o, i]."""
    y = exact(x) @ exact(weight).T
    return y if bias is None else y + exact(bias)


def linear_backward(grad_out, x, weight):
    """Gradients of x, weight and bias."""
    grad_out, x, weight = exact(grad_out), exact(x), exact(weight)
    rows, grad_rows = (a.reshape(int(np.prod(a.shape[:-1])), a.shape[-1]) for a in (x, grad_out))
    return grad_out @ weight, grad_rows.T @ rows, grad_rows.sum(axis=0)


# ----------------------------------------------------------------------------------------------- activation and classes
def relu_forward(x):
    """0 where x is negative, else x; NaN and -0 stay."""
    x = exact(x)
    return np.where(x < 0, 0, x)


def relu_backward(grad_out, y):
    """The gradient passes everywhere but where y <= 0."""
    return np.where(np.asarray(y) <= 0, 0, exact(grad_out))


def leaky_relu_forward(x, negative_slope):
    """x where it is positive, else negative_slope * x."""
    x = exact(x)
    return np.where(x > 0, x, x * negative_slope)


def leaky_relu_backward(grad_out, x, negative_slope):
    """The gradient of x where that is positive, else negative_slope times it."""
    return np.where(np.asarray(x) > 0, exact(grad_out), exact(grad_out) * negative_slope)


def _exponentials(x, axis):
    """e^(x - m) along an axis, for m the maximum."""
    return np.exp(x - x.max(axis, keepdims=True))


def softmax_forward(x, axis):
    """y_k = e^x_k / sum over j of e^x_j."""
    e = _exponentials(exact(x), axis)
    return e / e.sum(axis, keepdims=True)


def softmax_backward(grad_out, y, axis):
    """grad_x_k = sum over j of grad_out_j * y_j * ([j = k] - y_k)."""
    grad_out, y = np.moveaxis(exact(grad_out), axis, -1), np.moveaxis(exact(y), axis, -1)
    jacobian = y[..., :, np.newaxis] * (np.eye(y.shape[-1]) - y[..., np.newaxis, :])
    return np.moveaxis(np.einsum("...j,...jk->...k", grad_out, jacobian), -1, axis)


def log_softmax_forward(x, axis):
    """y_k = x_k - log of the sum over j of e^x_j; log1p adds the largest term, 1, so that nothing else is lost."""
    x = np.moveaxis(exact(x), axis, -1)
    e, largest = _exponentials(x, -1), np.argmax(x, -1)[..., np.newaxis]
    others = np.where(np.arange(x.shape[-1]) == largest, 0, e).sum(-1, keepdims=True)
    return np.moveaxis(x - x.max(-1, keepdims=True) - np.log1p(others), -1, axis)


def log_softmax_backward(grad_out, y, axis):
    """grad_x_k = sum over j of grad_out_j * ([j = k] - e^y_k)."""
    grad_out = exact(grad_out)
    return grad_out - np.exp(exact(y)) * grad_out.sum(axis, keepdims=True)


def cross_entropy_forward(logits, labels, ignore_index=-100):
    """For each item the negative log-probability of its label, 0 for ignored items."""
    losses = np.zeros(np.shape(labels))
    log_probability = log_softmax_forward(logits, 1)
    for index in np.ndindex(losses.shape):
        if labels[index] != ignore_index:
            losses[index] = -log_probability[(index[0], labels[index], *index[1:])]
    return losses


def cross_entropy_backward(logits, labels, ignore_index=-100):
    """Gradient of the sum of the losses: the probabilities, less 1 at the label.

    There that is minus the sum of the other probabilities, which has digits left where the label's is close to 1.
    """
    grads = np.zeros(np.shape(logits))
    probability = softmax_forward(logits, 1)
    for index in np.ndindex(np.shape(labels)):
        if labels[index] != ignore_index:
            column = (index[0], slice(None), *index[1:])
            grads[column] = probability[column]
            grads[column][labels[index]] = -np.delete(probability[column], labels[index]).sum()
    return grads
