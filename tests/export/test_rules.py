from dataclasses import replace

from export.scenes import full_policy

from hs_analysis.export import export
from hs_analysis.export.model import load_documents


def test_a_policy_written_again_goes_on_with_the_series_that_are_there():
    """Another week, version and run change no name and no label of a recorded series."""
    first = full_policy()
    later = replace(
        first,
        window={"start": "2027-01-01T00:00:00Z", "end": "2027-01-08T00:00:00Z"},
        tool_version="9.9.9",
        run="ffff",
        inputs_sha256="cd34",
    )
    for target in ("rules", "hpa", "aibrix"):
        texts = [export(policy, target).files for policy in (first, later)]
        bodies = [
            {name: load_documents(text) for name, text in files.items() if name.endswith(".yaml")}
            for files in texts
        ]
        assert bodies[0]
        assert bodies[0] == bodies[1], target
