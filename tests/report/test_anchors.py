"""The evidence that a page has a place for is read back from it."""

from __future__ import annotations

import base64
import gzip
import json

from report import sample as samples

from hs_analysis.evidence import answers_of_run
from hs_analysis.report import render
from hs_analysis.report.anchors import evidence_in


def test_every_answer_of_a_summary_is_read_back() -> None:
    """What the page gives an id is found, quoted signs and all, and beside charts nothing else."""
    sample = samples.sample('prod/llama & "co"')
    found = evidence_in(render(*sample.arguments()))
    assert {path for path in found if "/chart:" not in path} == {
        one.path for one in answers_of_run(sample.summary)
    }


def test_packed_parts_and_charts_count() -> None:
    """A part that unfolds only in the browser has its places, too; a link alone is none."""
    packed = base64.b64encode(gzip.compress(json.dumps({"s1": '<tr id="/a/study/b">'}).encode())).decode()
    page = f"""<a href="#/a/study/no"></a><figure class="chart" data-link="a/study/chart:c"></figure>
<script type="application/gzip" class="packed-parts">{packed}</script>"""
    assert evidence_in(page) == {"a/study/b", "a/study/chart:c"}
