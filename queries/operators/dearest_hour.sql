-- What a token cost in instance-hours and GPU-hours, hour by hour, the most expensive hour first.
-- grain: one row per service, capture and hour; hours with instances and without a token come first
-- in signals: aligned values; instances of the pools, prompt and output tokens
-- in pools: GPUs of an instance of each pool
-- out service: namespace/model
-- out capture: capture name, empty when there is one
-- out hour: start of the hour [UTC]
-- out windows: windows of the hour with instances and tokens of all pools; the others are left out [count]
-- out instance_hours: hours of instances in these windows [instance-hours]
-- out gpu_hours: hours of GPUs; null when a pool's GPUs per instance are not known [GPU-hours]
-- out prompt_tokens: prompt tokens, cached ones included [tokens]
-- out output_tokens: output tokens [tokens]
-- out instance_hours_per_million_tokens: instance-hours ÷ million prompt and output tokens [instance-hours]
-- out gpu_hours_per_million_tokens: GPU-hours ÷ million prompt and output tokens [GPU-hours]
-- out times_the_mean_ratio: instance-hours per token ÷ that of the whole capture [ratio]
WITH running AS (
  -- a window counts where every pool of the service is counted
  SELECT s.service, s.capture, s.t, any_value(s.window_s) AS window_s, sum(s.value) AS instances,
    CASE WHEN count(*) = count(p.gpus_per_instance) THEN sum(s.value * p.gpus_per_instance) END AS gpus
  FROM signals s LEFT JOIN pools p USING (service, role)
  WHERE s.signal = 'instances' AND s.gpu_type IS NULL
  GROUP BY s.service, s.capture, s.t
  HAVING count(*) = count(s.value)
), tokens AS (
  SELECT service, capture, t, sum(value) FILTER (signal = 'prefill_tps') AS prompt_tps,
    sum(value) FILTER (signal = 'decode_tps') AS output_tps
  FROM signals
  WHERE signal IN ('prefill_tps', 'decode_tps') AND role <> 'service' AND gpu_type IS NULL
  GROUP BY service, capture, t
), hours AS (
  SELECT service, capture, date_trunc('hour', t) AS hour, count(*) AS windows,
    sum(instances * window_s) / 3600 AS instance_hours,
    CASE WHEN count(*) = count(gpus) THEN sum(gpus * window_s) / 3600 END AS gpu_hours,
    sum(prompt_tps * window_s) AS prompt_tokens, sum(output_tps * window_s) AS output_tokens
  FROM running JOIN tokens USING (service, capture, t)
  WHERE prompt_tps IS NOT NULL AND output_tps IS NOT NULL
  GROUP BY service, capture, hour
), whole AS (
  SELECT service, capture, sum(instance_hours) / nullif(sum(prompt_tokens + output_tokens), 0) AS per_token
  FROM hours
  GROUP BY service, capture
)
SELECT h.service, h.capture, h.hour, h.windows::BIGINT AS windows, h.instance_hours::DOUBLE AS instance_hours,
  h.gpu_hours::DOUBLE AS gpu_hours, h.prompt_tokens::DOUBLE AS prompt_tokens,
  h.output_tokens::DOUBLE AS output_tokens,
  (1e6 * h.instance_hours / nullif(h.prompt_tokens + h.output_tokens, 0))::DOUBLE
    AS instance_hours_per_million_tokens,
  (1e6 * h.gpu_hours / nullif(h.prompt_tokens + h.output_tokens, 0))::DOUBLE AS gpu_hours_per_million_tokens,
  (h.instance_hours / nullif(h.prompt_tokens + h.output_tokens, 0) / w.per_token)::DOUBLE
    AS times_the_mean_ratio
FROM hours h JOIN whole w USING (service, capture)
ORDER BY h.service, instance_hours_per_million_tokens DESC NULLS FIRST, h.capture, h.hour
