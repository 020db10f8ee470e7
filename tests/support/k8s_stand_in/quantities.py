"""Amounts of resources, such as ``500m`` and ``1Gi``, and how the API server rewrites them."""

from __future__ import annotations

import re
from decimal import Decimal

_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal(10**3),
    "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18),
}  # fmt: skip
_FORM = re.compile(r"^(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))(?P<suffix>[eE][+-]?\d+|[numkMGTPE]|[KMGTPE]i)?$")
PATTERN = r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"


def amount(text: str) -> Decimal:
    """Raises ValueError for what is none."""
    number, suffix = _parts(text)
    if suffix in _BINARY:
        return number * _BINARY[suffix]
    if suffix in _DECIMAL:
        return number * _DECIMAL[suffix]
    return number * Decimal(10) ** int(suffix[1:])


def canonical(text: str) -> str:
    """As the API server writes it back: no fraction, and the largest suffix that allows that."""
    value = amount(text)
    suffix = _parts(text)[1]
    if value == 0:
        return "0"
    if suffix in _BINARY and abs(value) >= 1024 and value == value.to_integral_value():
        for name, unit in reversed(_BINARY.items()):
            if value % unit == 0:
                return f"{int(value / unit)}{name}"
        return str(int(value))
    for name, unit in reversed(_DECIMAL.items()):
        if value % unit == 0:
            return f"{int(value / unit)}{name}"
    return f"{int(value.scaleb(9).to_integral_value(rounding='ROUND_CEILING'))}n"


def _parts(text: str) -> tuple[Decimal, str]:
    found = _FORM.match(text)
    if found is None:
        raise ValueError(f"quantities must match the regular expression '{PATTERN}'")
    return Decimal(found["number"]), found["suffix"] or ""


def written(value: Decimal, like: str) -> str:
    """A sum, in the way of one of its parts."""
    binary = _parts(like)[1] in _BINARY
    if binary and value == value.to_integral_value() and value % 1024 == 0:
        return canonical(f"{int(value / 1024)}Ki")
    return canonical(format(value, "f"))
