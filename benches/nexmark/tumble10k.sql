-- Keyed tumbling windows, 10,000 keys.
SELECT k, window_start, window_end, count(*) AS n, sum(v) AS total, max(v) AS most
FROM TABLE(TUMBLE(TABLE keyed, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY k, window_start, window_end;
