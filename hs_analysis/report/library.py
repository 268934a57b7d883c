"""The chart library that a report carries: Vega, Vega-Lite and Vega-Embed as one script."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.metadata import version

import altair as alt
import vl_convert


@cache
def library_name() -> str:
    """Return what `chart_library` depends on, as a file name."""
    return f"vega-lite-{_version()}-vl-convert-{version('vl-convert-python')}.js"


@lru_cache(maxsize=1)
def chart_library() -> str:
    """Return the script of the major version Altair writes for; making it takes two seconds of CPU."""
    # "</script" inside a string would end the element; the sign after "<" may be escaped in a string.
    bundle: str = vl_convert.javascript_bundle(vl_version=_version())  # type: ignore[call-arg]  # snippet is optional
    return bundle.replace("</script", "<\\/script")


def _version() -> str:
    major, minor = alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2]
    bundled = [v for v in vl_convert.get_vegalite_versions() if v.split(".")[0] == major]
    wanted = f"{major}.{minor}"
    return wanted if wanted in bundled else max(bundled, key=lambda v: [int(part) for part in v.split(".")])
