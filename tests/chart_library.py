"""Make the chart library and the charts that the package carries; ``--check`` writes nothing.

``python tests/chart_library.py`` after a new altair or vl-convert; exits 1 with ``--check`` for a stale file.
"""

from __future__ import annotations

import sys

import altair as alt
import vl_convert

from hs_analysis.report import chart_specs, chart_templates


def made() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, of the version that altair writes charts for."""
    major, minor = alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2]
    known = [version for version in vl_convert.get_vegalite_versions() if version.split(".")[0] == major]
    wanted = f"{major}.{minor}"
    version = (
        wanted if wanted in known else max(known, key=lambda one: [int(part) for part in one.split(".")])
    )
    bundle: str = vl_convert.javascript_bundle(vl_version=version)
    # "</script" inside a string would end the element; the sign after "<" may be escaped in a string.
    return bundle.replace("</script", "<\\/script")


def main() -> int:
    """Write the files, or compare them."""
    wanted = {chart_templates.LIBRARY: made(), chart_templates.FILE: chart_specs.made()}
    stale = [file for file, text in wanted.items() if not file.is_file() or file.read_text("utf-8") != text]
    if "--check" in sys.argv[1:]:
        sys.stdout.write("".join(f"{file.name} is stale: make chart-library\n" for file in stale))
        return int(bool(stale))
    for file in stale:
        file.write_text(wanted[file], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
