"""Numbers of a plan by their names: a place in an array of integers, read as a NamedTuple is.

A tuple of its numbers would be copied wherever it goes, and every copy is code that the compiler reads and throws away:
half of all instructions of a convolution. A place is one pointer, and what is read there is constant, which lets the
compiler keep it in registers across stores.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import intrinsic, register_model

_INDEX = ir.IntType(64)


class Fields(types.Type):  # type: ignore[misc]
    """The type of a place that holds the fields of a NamedTuple."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        super().__init__(name=f"Fields({', '.join(names)})")


@register_model(Fields)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _INDEX.as_pointer())


@infer_getattr
class _Attributes(AttributeTemplate):  # type: ignore[misc]
    key = Fields

    def generic_resolve(self, fields: Fields, name: str) -> Any:
        return types.int64 if name in fields.names else None


@lower_getattr_generic(Fields)  # type: ignore[untyped-decorator]
def _read(context: Any, builder: Any, fields: Any, place: Any, name: str) -> Any:
    value = builder.load(builder.gep(place, [ir.Constant(_INDEX, fields.names.index(name))]))
    value.set_metadata("invariant.load", builder.module.add_metadata([]))
    return value


def fields_at(tuple_class: Any) -> Any:
    """``at(numbers, place)``: the fields of the NamedTuple ``tuple_class`` in an array, from that element on."""
    kind = Fields(tuple_class._fields)

    @intrinsic  # type: ignore[untyped-decorator]
    def at(typingctx: Any, numbers: Any, place: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            view = context.make_array(signature.args[0])(context, builder, args[0])
            return builder.gep(view.data, [args[1]])

        return kind(numbers, types.intp), codegen

    return at
