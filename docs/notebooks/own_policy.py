# %% [markdown]
# # A policy of your own, on your own history
#
# `hs_analysis` reads metric dumps of prefill/decode serving and says what to scale on. This notebook runs it
# on a sample of the repository, looks at what it found, and tries a policy of its own on the part of the
# history that the numbers have not seen. It is made from `own_policy.py`.

# %%
import altair as alt
import polars as pl

from hs_analysis import as_frame, load_run, replay, run, study, with_targets

history = run(
    "data_samples/dynamo-pd",
    "reports/notebook",
    slo={"ttft": "2s", "tbt": "50ms"},
    history={"kind": "pressure_test"},
)
{name: history.decision()[name] for name in ("recommend", "target", "metric", "confidence")}

# %% [markdown]
# A run lies in a folder: `load_run("reports/notebook")` gives it back later. Only `run` writes into it.
#
# ## Which signals follow the load

# %%
verdicts = as_frame(study(load_run("reports/notebook")).verdicts)
verdicts.select("signal", "role", "verdict", pl.col("elasticity", "snr").round(2)).sort(
    "verdict", "signal"
).head(8)

# %% [markdown]
# ## A signal against its load
#
# `signals()` is one row a window and one column per `signal@role`; any plotting library takes it from here.

# %%
table = history.signals().select(
    "t", load="offered_tps@decode", tokens_per_s="decode_tps@decode", kv_usage="kv_usage@decode"
)
alt.Chart(table.drop_nulls()).mark_point().encode(
    x=alt.X("load", title="offered decode load (tokens/s)"),
    y=alt.Y("kv_usage", title="KV-cache usage (ratio)"),
    tooltip=["t", "load", "kv_usage"],
)

# %% [markdown]
# Every figure of the report is there too, by name, and so are its rows.

# %%
history.figures()["figure"].to_list()

# %%
history.figure("capacity-decode")

# %% [markdown]
# ## A policy of your own
#
# `policy()` is what policy.yaml says. Here each decode instance carries a tenth less. The replay says what
# that costs and saves on the test window. Its row equals that of `hsa replay RUN --policy FILE`.

# %%
policy = history.policy()
decode = next(one for one in policy.primaries if one.role == "decode")
careful = with_targets(policy, {"decode": 0.9 * decode.target_per_instance.value})
found = replay(history, careful)
shown = ["own policy", found.selected, "recorded", "static_peak"]
found.policies.filter(pl.col("policy").is_in(shown)).select(
    "policy", pl.col("instance_hours").round(2), pl.col("slo_violation_ratio").round(3)
)

# %%
found.figure("decode")

# %% [markdown]
# ## Away from here
#
# Frames are polars frames: write them where you like.

# %%
found.timeline.filter(policy="own policy").write_csv("reports/notebook-own-policy.csv")
history.sql("SELECT role, round(per_instance, 1) AS tokens_per_s, status FROM capacity WHERE fit = 'whole'")
