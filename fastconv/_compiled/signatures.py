"""What is known of a call while its caller is compiled: which arguments there are, and the type of the result.

Wrong kinds of arguments and wrong constants raise here, by the same checks as at run time, so with the same messages.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import as_dtype

from fastconv import _checks
from fastconv._convolution import ConvGrads
from fastconv._pooling import MaxPooled
from fastconv.linear import LinearGrads

Types = Mapping[str, Any]

INTEGERS = frozenset(("indices", "labels"))  # arrays whose dtype is not that of the others
GRADS = {kind.__name__: kind for kind in (ConvGrads, LinearGrads)}


# ------------------------------------------------------------------------------------------------------- the arguments
def make_signature(function: Callable[..., Any], args: Any, kws: Any) -> tuple[Any, tuple[Any, ...], Any]:
    """The result's type, the arguments' types in the order of the parameters, and the signature with only these."""
    parameters = inspect.signature(function).parameters
    try:
        given = inspect.signature(function).bind(*args, **kws).arguments
    except TypeError as error:
        raise TypeError(f"{function.__name__}() {error}") from None
    arrays = _arrays(given, parameters)
    constants = {name: value for name, kind in given.items() if (value := constant(kind)) is not UNKNOWN}
    for name, value in constants.items():
        CONSTANTS.get(name, _anything)(value, _axes(function))
    result = _result(function, given, arrays, constants)
    kinds = tuple(kind if name in constants else types.unliteral(kind) for name, kind in given.items())
    named = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in given]
    return result, kinds, inspect.Signature(named)


def _arrays(given: Types, parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """The arrays among the arguments: each is one where there should be one, and those of floats have one dtype."""
    arrays: dict[str, Any] = {}
    for name, kind in given.items():
        annotation = str(parameters[name].annotation)
        if not annotation.startswith("Array"):
            continue
        kind = kind.type if isinstance(kind, types.Optional) else kind
        if isinstance(kind, types.Array):
            arrays[name] = kind
        elif not (isinstance(kind, (types.NoneType, types.Omitted)) and "None" in annotation):
            raise TypeError(f"{name} must be a numpy.ndarray, got {kind} in compiled code")
    floats = {name: np.empty((0,) * kind.ndim, as_dtype(kind.dtype)) for name, kind in arrays.items()
              if name not in INTEGERS}  # fmt: skip
    first = next(iter(floats))
    for name, stand_in in floats.items():
        _checks.same_dtype(name, stand_in, first, floats[first])
    return arrays


# ------------------------------------------------------------------------------------------------------- the constants
UNKNOWN = object()


def constant(kind: Any) -> Any:
    """The value of a constant, or UNKNOWN."""
    if isinstance(kind, types.Literal):
        return kind.literal_value
    if isinstance(kind, types.NoneType):
        return None
    if isinstance(kind, types.Omitted):
        return kind.value
    if isinstance(kind, types.BaseTuple) and kind:
        items = tuple(map(constant, kind))
        return UNKNOWN if any(item is UNKNOWN for item in items) else items
    return UNKNOWN


def _anything(value: Any, axes: int | None) -> None:
    pass


def _sizes(name: str, minimum: int = 1) -> Callable[[Any, int | None], None]:
    def check(value: Any, axes: int | None) -> None:
        if axes is not None and not (name == "stride" and value is None):  # of pooling: the kernel's size
            _checks.integers(name, value, axes, minimum)

    return check


CONSTANTS: dict[str, Callable[[Any, int | None], Any]] = {
    "kernel_size": _sizes("kernel_size"),
    "stride": _sizes("stride"),
    "dilation": _sizes("dilation"),
    "output_padding": _sizes("output_padding", 0),
    "padding": lambda value, axes: axes is None or _checks.padding(value, axes),
    "groups": lambda value, axes: _checks.integer("groups", value, 1),
    "activation": lambda value, axes: _checks.activation(value),
    "algorithm": lambda value, axes: _checks.option("algorithm", value, _checks.ALGORITHMS),
    "reduction": lambda value, axes: _checks.option("reduction", value, ("mean", "sum", "none")),
}


def _axes(function: Callable[..., Any]) -> int | None:
    """Spatial axes, by the name of the function."""
    found = re.search(r"([123])d", function.__name__)
    return int(found[1]) if found else None


# ---------------------------------------------------------------------------------------------------------- the result
def _result(function: Callable[..., Any], given: Types, arrays: Types, constants: Mapping[str, Any]) -> Any:
    """The result's type: an array like the first one but for what the function's name and annotations say."""
    if "out" in arrays:
        return given["out"]
    contiguous = all(kind.layout == "C" for kind in arrays.values())
    returns, first = str(inspect.signature(function).return_annotation), next(iter(arrays.values()))

    def array(dtype: Any, ndim: int) -> Any:
        return types.Array(dtype, ndim, "C" if contiguous or ndim == 1 else "A")

    if returns in GRADS:
        kind = GRADS[returns]
        ranks = [arrays[name].ndim if name in arrays else 1 for name in kind._fields]
        return types.NamedTuple([array(first.dtype, ndim) for ndim in ranks], kind)
    if function.__name__ == "cross_entropy":
        each = constants.get("reduction", "mean" if "reduction" not in given else UNKNOWN)
        if each is UNKNOWN:
            raise TypeError("reduction must be a constant in compiled code")
        return array(first.dtype, arrays["labels"].ndim) if each == "none" else first.dtype
    ndim = next((len(kind) for name, kind in given.items() if name in ("input_shape", "output_shape", "weight_shape")),
                2 if function.__name__.startswith("global_") else first.ndim)  # fmt: skip
    with_indices = constants.get("return_indices", "return_indices" in given and UNKNOWN)
    if with_indices is UNKNOWN:
        raise TypeError("return_indices must be a constant in compiled code")
    values = array(first.dtype, ndim)
    return types.NamedTuple([values, array(types.int64, ndim)], MaxPooled) if with_indices else values
