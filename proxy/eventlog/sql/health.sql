-- The figures of the triggers in steps of time: coverage, failures, late answers, 95th percentile.
-- param step_s count = 60: length of a step, in seconds
-- param target_ms number = 200: the latency target, in milliseconds
-- param route name = '': of this route alone; empty: of all
SELECT
  CAST(FLOOR((timestamp_ms - {since}) / ({step_s} * 1000)) AS BIGINT) * {step_s} * 1000 + {since} AS from_ms,
  CAST(SUM(weight) AS BIGINT) AS requests,
  AVG(coverage) AS avg_coverage,
  SUM(CASE WHEN failed THEN 1 ELSE 0 END) * 1000.0 / COUNT(*) AS error_rate_per_1k,
  AVG(CASE WHEN latency_ms > {target_ms} THEN 1E0 ELSE 0E0 END) AS late_share,
  PERCENTILE_APPROX(latency_ms, 0.95) AS p95_latency
FROM events.ranking
WHERE event_date BETWEEN DATE {since_date} AND DATE {until_date}
  AND timestamp_ms >= {since}
  AND timestamp_ms < {until}
  AND shadow = false
  AND ({route} = '' OR route = {route})
GROUP BY 1
ORDER BY 1
