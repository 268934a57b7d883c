-- Offered work of both roles: started requests times the tokens a request brings, counted near the row.
-- grain: one row per capture and window, as in the input
-- param enough_requests: finished requests that make a mean trustworthy [count]
-- param window_s: width of a window [s]
-- in windows: one row per capture and window; started, arrived_tps, prompt_tps, effective_tps, first_token_rate, output_tps, finished_rate and decode_arrivals as rates per second, null = missing (capture, t, …)
-- out capture: capture name
-- out t: start of the window [s since 1970, UTC]
-- out prefill_tps: offered cache-missed prompt tokens; tokens counted at arrival where there are any [tokens/s]
-- out decode_tps: offered output tokens [tokens/s]
-- out decode_half_width_s: half width of the mean behind decode_tps [s]
WITH near AS (
  SELECT *,
    sum(effective_tps) OVER h1 AS e1, sum(prompt_tps) OVER h1 AS p1, sum(first_token_rate) OVER h1 AS f1, sum(output_tps) OVER h1 AS o1, sum(finished_rate) OVER h1 AS d1,
    sum(effective_tps) OVER h2 AS e2, sum(prompt_tps) OVER h2 AS p2, sum(first_token_rate) OVER h2 AS f2, sum(output_tps) OVER h2 AS o2, sum(finished_rate) OVER h2 AS d2,
    sum(effective_tps) OVER h5 AS e5, sum(prompt_tps) OVER h5 AS p5, sum(first_token_rate) OVER h5 AS f5, sum(output_tps) OVER h5 AS o5, sum(finished_rate) OVER h5 AS d5,
    sum(effective_tps) OVER h10 AS e10, sum(prompt_tps) OVER h10 AS p10, sum(first_token_rate) OVER h10 AS f10, sum(output_tps) OVER h10 AS o10, sum(finished_rate) OVER h10 AS d10,
    sum(effective_tps) OVER h30 AS e30, sum(prompt_tps) OVER h30 AS p30, sum(first_token_rate) OVER h30 AS f30, sum(output_tps) OVER h30 AS o30, sum(finished_rate) OVER h30 AS d30
  FROM windows
  WINDOW
    h1 AS (PARTITION BY capture ORDER BY t RANGE BETWEEN 60 PRECEDING AND 60 FOLLOWING),
    h2 AS (PARTITION BY capture ORDER BY t RANGE BETWEEN 120 PRECEDING AND 120 FOLLOWING),
    h5 AS (PARTITION BY capture ORDER BY t RANGE BETWEEN 300 PRECEDING AND 300 FOLLOWING),
    h10 AS (PARTITION BY capture ORDER BY t RANGE BETWEEN 600 PRECEDING AND 600 FOLLOWING),
    h30 AS (PARTITION BY capture ORDER BY t RANGE BETWEEN 1800 PRECEDING AND 1800 FOLLOWING)
), chosen AS (
  SELECT *,
    CASE WHEN f1 * $window_s >= $enough_requests THEN 1 WHEN f2 * $window_s >= $enough_requests THEN 2
      WHEN f5 * $window_s >= $enough_requests THEN 5 WHEN f10 * $window_s >= $enough_requests THEN 10 ELSE 30 END AS hp,
    CASE WHEN d1 * $window_s >= $enough_requests THEN 1 WHEN d2 * $window_s >= $enough_requests THEN 2
      WHEN d5 * $window_s >= $enough_requests THEN 5 WHEN d10 * $window_s >= $enough_requests THEN 10 ELSE 30 END AS hd
  FROM near
), means AS (
  SELECT *,
    CASE hp WHEN 1 THEN e1 / nullif(f1, 0) WHEN 2 THEN e2 / nullif(f2, 0) WHEN 5 THEN e5 / nullif(f5, 0)
      WHEN 10 THEN e10 / nullif(f10, 0) ELSE e30 / nullif(f30, 0) END AS missed_tokens,
    CASE hp WHEN 1 THEN e1 / nullif(p1, 0) WHEN 2 THEN e2 / nullif(p2, 0) WHEN 5 THEN e5 / nullif(p5, 0)
      WHEN 10 THEN e10 / nullif(p10, 0) ELSE e30 / nullif(p30, 0) END AS missed_share,
    CASE hd WHEN 1 THEN o1 / nullif(d1, 0) WHEN 2 THEN o2 / nullif(d2, 0) WHEN 5 THEN o5 / nullif(d5, 0)
      WHEN 10 THEN o10 / nullif(d10, 0) ELSE o30 / nullif(d30, 0) END AS output_tokens
  FROM chosen
)
SELECT capture, t::DOUBLE AS t,
  coalesce(arrived_tps * missed_share, started * missed_tokens)::DOUBLE AS prefill_tps,
  (decode_arrivals * output_tokens)::DOUBLE AS decode_tps,
  (hd * 60)::DOUBLE AS decode_half_width_s
FROM means
ORDER BY capture, t
