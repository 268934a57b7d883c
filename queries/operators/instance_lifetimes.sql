-- When instances came and went, how long they took to serve and how long they stayed, the shortest stay first.
-- grain: one row per service, capture, role, instance and life
-- in lives: lives of the instances
-- in signals: aligned values; when the recording began and ended
-- out service: namespace/model
-- out capture: capture name, empty when there is one
-- out role: prefill, decode or mixed
-- out instance: unit an autoscaler adds
-- out life: number of the life; above 1 it was restarted [count]
-- out started: first sign of it; null when it was there before the recording [UTC]
-- out ended: last sample; null when it was there to the end [UTC]
-- out ended_by: up, reset or series: what says that it ended
-- out stay_s: time it was there within the recording [s]
-- out stay_is_whole: true when both ends were recorded, false when the stay is a lower bound
-- out startup_s: first sign to first work; null when one of them was not recorded [s]
-- out away_s: pause since its life before; null in the first [s]
-- out resolution_s: time between samples: each moment is known to within it [s]
WITH recorded AS (
  SELECT service, capture, min(t) AS first_t, max(t + to_microseconds((window_s * 1e6)::BIGINT)) AS last_t
  FROM signals
  GROUP BY service, capture
)
SELECT l.service, l.capture, l.role, l.instance, l.life::BIGINT AS life, l.started, l.ended, l.ended_by,
  greatest(epoch(coalesce(l.ended, r.last_t)) - epoch(coalesce(l.started, r.first_t)), 0)::DOUBLE AS stay_s,
  l.started IS NOT NULL AND l.ended IS NOT NULL AS stay_is_whole,
  (epoch(l.served) - epoch(l.started))::DOUBLE AS startup_s,
  l.away_s::DOUBLE AS away_s, l.resolution_s::DOUBLE AS resolution_s
FROM lives l LEFT JOIN recorded r USING (service, capture)
ORDER BY stay_s, l.service, l.capture, l.role, l.instance, l.life
