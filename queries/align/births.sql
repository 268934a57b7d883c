-- When instances were first seen, first served, and when their pods were created.
-- grain: one row per service, capture, role and instance with a sample
-- in samples: stored samples
-- in watched: series of the instances looked at; shows is served (a counter of its work) or created (when its pod was) (series_id, service, capture, role, instance, shows)
-- out service: namespace/model
-- out capture: capture name
-- out role: prefill, decode or mixed
-- out instance: instance
-- out first_sample_s: first sample of a counter of its work [s since 1970, UTC]; null without one
-- out first_served_s: first sample in which such a counter is above zero [s since 1970, UTC]; null when none is
-- out created_s: creation of its first pod [s since 1970, UTC]; null when not exported
SELECT w.service, w.capture, w.role, w.instance,
  min(epoch_us(s.t) / 1e6) FILTER (w.shows = 'served')::DOUBLE AS first_sample_s,
  min(epoch_us(s.t) / 1e6) FILTER (w.shows = 'served' AND s.value > 0)::DOUBLE AS first_served_s,
  min(s.value) FILTER (w.shows = 'created' AND s.value > 0)::DOUBLE AS created_s
FROM samples s JOIN watched w USING (series_id)
WHERE s.value IS NOT NULL
GROUP BY ALL
ORDER BY w.service, w.capture, w.role, w.instance
