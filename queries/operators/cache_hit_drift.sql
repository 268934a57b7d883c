-- How the share of prompt tokens that need no prefill moved, and what that did to the work, hour by hour.
-- grain: one row per service, capture, role that prefills and hour, in the order of time
-- in signals: aligned values; prompt tokens and those computed
-- out service: namespace/model
-- out capture: capture name, empty when there is one
-- out role: prefill or mixed
-- out hour: start of the hour [UTC]
-- out prompt_tps: mean prompt tokens, cached ones included [tokens/s]
-- out computed_tps: mean prompt tokens computed [tokens/s]
-- out cached_ratio: share of prompt tokens that were not computed: cache hits and transferred ones [ratio]
-- out whole_cached_ratio: the same over the whole capture [ratio]
-- out day_before_cached_ratio: the same 24 h earlier; null where that was not recorded [ratio]
-- out cached_change_ratio: cached_ratio − whole_cached_ratio [ratio]
-- out work_change_ratio: prefill work of a prompt token, compared with the whole capture; 0.1 = 10 % more [ratio]
WITH tokens AS (
  -- only windows that have both
  SELECT p.service, p.capture, p.role, date_trunc('hour', p.t) AS hour, p.value AS prompt, c.value AS computed
  FROM signals p JOIN signals c USING (service, capture, role, t)
  WHERE p.signal = 'prefill_tps' AND c.signal = 'prefill_tps_effective'
    AND p.gpu_type IS NULL AND c.gpu_type IS NULL AND p.value IS NOT NULL AND c.value IS NOT NULL
), hours AS (
  SELECT service, capture, role, hour, avg(prompt) AS prompt_tps, avg(computed) AS computed_tps,
    1 - sum(computed) / nullif(sum(prompt), 0) AS cached_ratio
  FROM tokens
  GROUP BY service, capture, role, hour
), whole AS (
  SELECT service, capture, role, 1 - sum(computed) / nullif(sum(prompt), 0) AS whole_cached_ratio
  FROM tokens
  GROUP BY service, capture, role
)
SELECT h.service, h.capture, h.role, h.hour, h.prompt_tps::DOUBLE AS prompt_tps,
  h.computed_tps::DOUBLE AS computed_tps, h.cached_ratio::DOUBLE AS cached_ratio,
  w.whole_cached_ratio::DOUBLE AS whole_cached_ratio, b.cached_ratio::DOUBLE AS day_before_cached_ratio,
  (h.cached_ratio - w.whole_cached_ratio)::DOUBLE AS cached_change_ratio,
  ((1 - h.cached_ratio) / nullif(1 - w.whole_cached_ratio, 0) - 1)::DOUBLE AS work_change_ratio
FROM hours h
  JOIN whole w USING (service, capture, role)
  LEFT JOIN hours b ON b.service = h.service AND b.capture = h.capture AND b.role = h.role
    AND b.hour = h.hour - INTERVAL 24 HOUR
ORDER BY h.service, h.capture, h.role, h.hour
