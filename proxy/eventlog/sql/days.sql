-- Requests, coverage, failures and late answers of each day, for as long as aggregates are kept (400 days).
-- Of days that are over and compacted.
-- param route name = '': of this route alone; empty: of all
SELECT
  event_date,
  SUM(requests) AS requests,
  SUM(coverage_sum) / SUM(answers) AS avg_coverage,
  SUM(underfilled) * 100.0 / SUM(requests) AS underfill_rate,
  SUM(failed) * 1000.0 / SUM(requests) AS error_rate_per_1k,
  SUM(late_200) * 1E0 / SUM(requests) AS late_share
FROM events.aggregate
WHERE event_date BETWEEN DATE {since_date} AND DATE {until_date}
  AND timestamp_ms >= {since}
  AND timestamp_ms < {until}
  AND shadow = false
  AND ({route} = '' OR route = {route})
GROUP BY event_date
ORDER BY event_date
