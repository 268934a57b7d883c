-- One value per signal and window from the series that carry it: totals, means or ratios over the pool.
-- grain: one row per service, capture, role, GPU group, signal, preference and window
-- param least_coverage: below this share of a window's samples the value is null [ratio, 0..1]
-- in windows: value of every series per window (series_id, t, value, coverage)
-- in terms: which series carry which signal (signal, source, preference, pool, role, gpu_group, service, capture, instance, side, sign, series_id)
-- in instances: result of instances
-- out service: namespace/model
-- out capture: capture name
-- out role: prefill, decode, mixed or service
-- out gpu_group: GPU model; null = all together
-- out signal: catalogue signal
-- out source: exporter
-- out preference: place of the source in the catalogue, 0 first
-- out t: start of the window [s since 1970, UTC]
-- out value: pool total, mean or ratio; null when too little was present [unit of the signal]
-- out instances: instances of the pool; null for front ends [count]
-- out coverage: share of the window's samples present [ratio, 0..1]
WITH placed AS (
  SELECT t.*, w.t, w.value * t.sign AS value, w.coverage FROM terms t JOIN windows w USING (series_id)
), by_instance AS (
  SELECT service, capture, role, gpu_group, signal, source, preference, pool, instance, t,
    sum(value) FILTER (side = 'num') AS total, avg(value) FILTER (side = 'num') AS mean,
    sum(value) FILTER (side = 'den') AS below, avg(coverage) AS coverage
  FROM placed GROUP BY ALL
), by_pool AS (
  SELECT b.service, b.capture, b.role, b.gpu_group, b.signal, b.source, b.preference, b.pool, b.t,
    sum(total) AS total, avg(mean) AS mean, sum(below) AS below, avg(coverage) AS coverage,
    count(b.instance) AS reporting, any_value(i.instances) AS instances
  FROM by_instance b
  LEFT JOIN instances i ON (i.service, i.capture, i.role, i.t) = (b.service, b.capture, b.role, b.t)
    AND i.gpu_group IS NOT DISTINCT FROM b.gpu_group AND b.instance IS NOT NULL
  GROUP BY ALL
)
SELECT service, capture, role, gpu_group, signal, source, preference::BIGINT AS preference, t::DOUBLE AS t,
  CASE
    WHEN coverage < $least_coverage OR reporting < 0.5 * instances THEN NULL
    WHEN pool = 'mean' THEN mean
    WHEN pool = 'ratio' THEN total / nullif(below, 0)
    WHEN instances > reporting AND reporting > 0 THEN total / reporting * instances
    ELSE total
  END::DOUBLE AS value,
  instances::DOUBLE AS instances, coverage::DOUBLE AS coverage
FROM by_pool
ORDER BY service, capture, role, gpu_group, signal, preference, t
