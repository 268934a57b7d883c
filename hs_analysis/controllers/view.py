"""How a parameter of a controller says where its default comes from."""

from __future__ import annotations


def documented(unit: str, source: str) -> dict[str, str]:
    """Return the metadata of a parameter's field: its unit and where its default is documented."""
    return {"unit": unit, "source": source}
