-- How many windows of each pool broke the SLO, hour by hour.
-- grain: one row per service, capture, role and hour, in the order of time
-- in capacity_points: judged windows of each pool
-- out service: namespace/model
-- out capture: capture name, empty when there is one
-- out role: prefill (time to first token), decode (time between tokens) or mixed (both)
-- out hour: start of the hour [UTC]
-- out windows: windows of the hour [count]
-- out judged_windows: windows of which it is known whether they broke the SLO [count]
-- out violating_windows: windows that broke it [count]
-- out undecided_windows: windows with latencies whose buckets can't tell [count]
-- out violating_ratio: violating ÷ judged windows; null when none was judged [ratio]
-- out least_over_limit_ratio: mean share of latencies that was certainly over the limit [ratio]
-- out most_over_limit_ratio: mean share of latencies that may have been over it [ratio]
SELECT service, capture, role, date_trunc('hour', t) AS hour,
  count(*)::BIGINT AS windows,
  count(violates)::BIGINT AS judged_windows,
  count(*) FILTER (violates)::BIGINT AS violating_windows,
  count(*) FILTER (violates IS NULL AND coalesce(over_ratio, over_least_ratio) IS NOT NULL)::BIGINT
    AS undecided_windows,
  (count(*) FILTER (violates) / nullif(count(violates), 0))::DOUBLE AS violating_ratio,
  avg(over_least_ratio)::DOUBLE AS least_over_limit_ratio,
  avg(over_ratio)::DOUBLE AS most_over_limit_ratio
FROM capacity_points
GROUP BY service, capture, role, hour
ORDER BY service, capture, role, hour
