-- Requests of users in steps of time, and how far each step is from the one before; a rollback must not show.
-- param step_s count = 60: length of a step, in seconds
-- param route name = '': of this route alone; empty: of all
WITH steps AS (
  SELECT
    CAST(FLOOR((timestamp_ms - {since}) / ({step_s} * 1000)) AS BIGINT) AS step,
    CAST(SUM(weight) AS BIGINT) AS requests,
    SUM(CASE WHEN k_returned = k THEN 1 ELSE 0 END) * 100.0 / COUNT(*) AS fill_rate,
    SUM(CASE WHEN exposed THEN 1 ELSE 0 END) * 100.0 / COUNT(*) AS exposed_percent,
    SUM(CASE WHEN side = 'decided' THEN 1 ELSE 0 END) * 100.0 / COUNT(*) AS decided_percent
  FROM events.ranking
  WHERE event_date BETWEEN DATE {since_date} AND DATE {until_date}
    AND timestamp_ms >= {since}
    AND timestamp_ms < {until}
    AND (shadow = false OR side = 'decided')
    AND ({route} = '' OR route = {route})
  GROUP BY 1
)
SELECT
  step * {step_s} * 1000 + {since} AS from_ms,
  requests,
  (requests - LAG(requests) OVER (ORDER BY step)) * 100.0
    / LAG(requests) OVER (ORDER BY step) AS change_percent,
  fill_rate,
  exposed_percent,
  decided_percent
FROM steps
ORDER BY step
