-- Offered work of both roles: started requests times the tokens a request brings, counted near the row.
-- grain: one row per capture and window, as in the input
-- param enough_requests: finished requests that make a mean trustworthy [count]
-- param narrowest_s: least half width of a mean, 0 = the row alone [s]
-- param window_s: width of a window [s]
-- param ahead: how much of a mean lies ahead of the row, 1 = as much as behind, 0 = none: no look-ahead [ratio, 0..1]
-- in windows: one row per capture and window, rates per second, null = missing (capture, t DOUBLE, started DOUBLE, arrived_tps, prompt_tps, effective_tps, first_token_rate, output_tps, finished_rate, decode_arrivals DOUBLE)
-- out capture: capture name
-- out t: start of the window [s since 1970, UTC]
-- out prefill_tps: offered cache-missed prompt tokens; tokens counted at arrival where there are any [tokens/s]
-- out decode_tps: offered output tokens [tokens/s]
-- out decode_half_width_s: half width of the mean behind decode_tps [s]
WITH paired AS (
  -- a mean needs both of its sides: a window without one of them counts in neither
  SELECT *,
    CASE WHEN first_token_rate IS NOT NULL THEN effective_tps END AS effective_of_first,
    CASE WHEN effective_tps IS NOT NULL THEN first_token_rate END AS first_of_effective,
    CASE WHEN prompt_tps IS NOT NULL THEN effective_tps END AS effective_of_prompt,
    CASE WHEN effective_tps IS NOT NULL THEN prompt_tps END AS prompt_of_effective,
    CASE WHEN finished_rate IS NOT NULL THEN output_tps END AS output_of_finished,
    CASE WHEN output_tps IS NOT NULL THEN finished_rate END AS finished_of_output
  FROM windows
), widths AS (
  SELECT half_s, half_s * (2 - $ahead) AS behind_s, half_s * $ahead AS ahead_s
  FROM (SELECT DISTINCT unnest([$narrowest_s, 60.0, 120.0, 300.0, 600.0, 1800.0]::DOUBLE[]) AS half_s)
), near AS (
  SELECT p.capture, p.t, p.started, p.arrived_tps, p.decode_arrivals, h.half_s,
    sum(effective_of_first) OVER around / nullif(sum(first_of_effective) OVER around, 0) AS missed_tokens,
    sum(effective_of_prompt) OVER around / nullif(sum(prompt_of_effective) OVER around, 0) AS missed_share,
    sum(output_of_finished) OVER around / nullif(sum(finished_of_output) OVER around, 0) AS output_tokens,
    coalesce(sum(first_token_rate) OVER around * $window_s >= $enough_requests, false) AS enough_prefills,
    coalesce(sum(finished_rate) OVER around * $window_s >= $enough_requests, false) AS enough_finished
  FROM paired p, widths h
  WINDOW around AS (
    PARTITION BY p.capture, h.half_s ORDER BY p.t RANGE BETWEEN h.behind_s PRECEDING AND h.ahead_s FOLLOWING)
), chosen AS (
  -- the narrowest that holds enough, else the widest
  SELECT *,
    CASE WHEN enough_prefills THEN half_s ELSE 1e9 - half_s END AS prefill_rank,
    CASE WHEN enough_finished THEN half_s ELSE 1e9 - half_s END AS decode_rank
  FROM near
), means AS (
  SELECT capture, t, any_value(started) AS started, any_value(arrived_tps) AS arrived_tps,
    any_value(decode_arrivals) AS decode_arrivals,
    first(missed_tokens ORDER BY prefill_rank) AS missed_tokens,
    first(missed_share ORDER BY prefill_rank) AS missed_share,
    first(output_tokens ORDER BY decode_rank) AS output_tokens,
    first(half_s ORDER BY decode_rank) AS decode_half_width_s
  FROM chosen GROUP BY capture, t
)
SELECT capture, t::DOUBLE AS t,
  coalesce(arrived_tps * missed_share, started * missed_tokens)::DOUBLE AS prefill_tps,
  (decode_arrivals * output_tokens)::DOUBLE AS decode_tps,
  decode_half_width_s::DOUBLE AS decode_half_width_s
FROM means
ORDER BY capture, t
