-- Instances of each pool that report in a window.
-- grain: one row per service, capture, role, GPU group and window with at least one reporting instance
-- param window_s: width of a window [s]
-- param present_share: share of the expected samples that makes an instance present [ratio, 0..1]
-- in samples: stored samples
-- in reporters: series whose samples prove an instance (series_id, service, capture, role, gpu_group, instance, interval_s)
-- out service: namespace/model
-- out capture: capture name
-- out role: prefill, decode or mixed
-- out gpu_group: GPU model; null = all together
-- out t: start of the window [s since 1970, UTC]
-- out instances: reporting instances; null where none reports enough, as at the edge of a scrape gap [count]
WITH seen AS (
  SELECT r.service, r.capture, r.role, r.gpu_group, r.instance, r.interval_s,
    (ceil(epoch_us(s.t) / 1e6 / $window_s) - 1) * $window_s AS t, s.t AS moment
  FROM samples s JOIN reporters r USING (series_id)
  WHERE s.value IS NOT NULL
), present AS (
  SELECT service, capture, role, gpu_group, instance, t,
    count(DISTINCT moment) * min(interval_s) / $window_s AS share
  FROM seen GROUP BY ALL
)
SELECT service, capture, role, gpu_group, t::DOUBLE AS t,
  nullif(count(*) FILTER (share >= $present_share), 0)::DOUBLE AS instances
FROM present
GROUP BY ALL
ORDER BY service, capture, role, gpu_group, t
