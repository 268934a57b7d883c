-- How much of the capacity of each pool was used, hour by hour.
-- grain: one row per service, capture, role and hour, in the order of time
-- in signals: aligned values; instances of the pools
-- in capacity_points: load of an instance, as the capacity was fitted on it
-- in capacity: capacity per instance; of the whole window and all GPU types
-- out service: namespace/model
-- out capture: capture name, empty when there is one
-- out role: prefill, decode or mixed
-- out hour: start of the hour [UTC]
-- out windows: windows of the hour with a load [count]
-- out instances: mean number of instances [instances]
-- out load_per_instance_tps: mean offered work per ready instance [tokens/s]
-- out busiest_load_per_instance_tps: highest 5-min mean of it [tokens/s]
-- out capacity_per_instance_tps: work at which the SLO just holds, or the most carried when status is floor; null when refused [tokens/s]
-- out capacity_status: ok, floor or refused
-- out used_ratio: mean load ÷ capacity [ratio]
-- out busiest_used_ratio: highest load ÷ capacity; above 1 the SLO is expected to break [ratio]
-- out least_spare_instances: instances beyond those that the load needs at capacity, where they were fewest; negative = missing [instances]
WITH counts AS (
  SELECT service, capture, role, t, value AS instances
  FROM signals
  WHERE signal = 'instances' AND gpu_type IS NULL
), limits AS (
  SELECT service, role, per_instance, status
  FROM capacity
  WHERE fit = 'whole' AND gpu_type IS NULL
), windows AS (
  SELECT p.service, p.capture, p.role, p.t, c.instances, p.load_per_instance, l.per_instance, l.status,
    p.load_per_instance / nullif(l.per_instance, 0) AS used
  FROM capacity_points p
    LEFT JOIN counts c USING (service, capture, role, t)
    LEFT JOIN limits l USING (service, role)
)
SELECT service, capture, role, date_trunc('hour', t) AS hour,
  count(load_per_instance)::BIGINT AS windows,
  avg(instances)::DOUBLE AS instances,
  avg(load_per_instance)::DOUBLE AS load_per_instance_tps,
  max(load_per_instance)::DOUBLE AS busiest_load_per_instance_tps,
  any_value(per_instance)::DOUBLE AS capacity_per_instance_tps,
  any_value(status) AS capacity_status,
  avg(used)::DOUBLE AS used_ratio,
  max(used)::DOUBLE AS busiest_used_ratio,
  min(instances * (1 - used))::DOUBLE AS least_spare_instances
FROM windows
GROUP BY service, capture, role, hour
ORDER BY service, capture, role, hour
