-- The P/D ratio that ran and the one that the load asked for, hour by hour.
-- grain: one row per service with two pools, capture and hour, in the order of time
-- in signals: aligned values; instances of the pools
-- in mix: offered work and its balanced ratio, by stretch
-- out service: namespace/model
-- out capture: capture name, empty when there is one
-- out hour: start of the hour [UTC]
-- out prefill_instances: mean number where both pools are counted [instances]
-- out decode_instances: mean number where both pools are counted [instances]
-- out running_ratio: prefill ÷ decode instances [ratio]
-- out prefill_tps: mean offered cache-missed prompt tokens [tokens/s]
-- out decode_tps: mean offered output tokens [tokens/s]
-- out balanced_ratio: prefill ÷ decode instances that the load asked for; null without both targets [ratio]
-- out prefill_surplus_ratio: running ÷ balanced ratio − 1; positive = more prefill than the load asked for [ratio]
WITH pairs AS (
  SELECT p.service, p.capture, p.t, p.value AS prefill, d.value AS decode
  FROM signals p JOIN signals d USING (service, capture, t, signal)
  WHERE signal = 'instances' AND p.role = 'prefill' AND d.role = 'decode'
    AND p.gpu_type IS NULL AND d.gpu_type IS NULL
), running AS (
  SELECT service, capture, date_trunc('hour', t) AS hour,
    avg(prefill) FILTER (decode IS NOT NULL) AS prefill_instances,
    avg(decode) FILTER (prefill IS NOT NULL) AS decode_instances
  FROM pairs
  GROUP BY service, capture, hour
), pieces AS (
  -- a stretch counts in each hour by the time it has there
  SELECT r.*, m.prefill_tps, m.decode_tps, m.ratio,
    epoch(least(m."end", r.hour + INTERVAL 1 HOUR)) - epoch(greatest(m.start, r.hour)) AS shared_s
  FROM running r
    LEFT JOIN mix m ON m.service = r.service AND m.capture = r.capture
      AND m.start < r.hour + INTERVAL 1 HOUR AND m."end" > r.hour
), hours AS (
  -- weighed by decode work, the mean of balanced ratios is the ratio of the summed needs
  SELECT service, capture, hour, any_value(prefill_instances) AS prefill_instances,
    any_value(decode_instances) AS decode_instances,
    sum(prefill_tps * shared_s) / nullif(sum(shared_s) FILTER (prefill_tps IS NOT NULL), 0) AS prefill_tps,
    sum(decode_tps * shared_s) / nullif(sum(shared_s) FILTER (decode_tps IS NOT NULL), 0) AS decode_tps,
    sum(ratio * decode_tps * shared_s) / nullif(sum(decode_tps * shared_s) FILTER (ratio IS NOT NULL), 0)
      AS balanced_ratio
  FROM pieces
  GROUP BY service, capture, hour
)
SELECT service, capture, hour, prefill_instances::DOUBLE AS prefill_instances,
  decode_instances::DOUBLE AS decode_instances,
  (prefill_instances / nullif(decode_instances, 0))::DOUBLE AS running_ratio,
  prefill_tps::DOUBLE AS prefill_tps, decode_tps::DOUBLE AS decode_tps, balanced_ratio::DOUBLE AS balanced_ratio,
  (prefill_instances / nullif(decode_instances, 0) / nullif(balanced_ratio, 0) - 1)::DOUBLE
    AS prefill_surplus_ratio
FROM hours
ORDER BY service, capture, hour
