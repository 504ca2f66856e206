-- A session: rows each of which comes soon after the one before. How soon is put in for {gap}.
SELECT * FROM event MATCH_RECOGNIZE (
  PARTITION BY k ORDER BY ts
  MEASURES FIRST(ts) AS began, LAST(ts) AS ended, COUNT(*) AS events
  ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW
  PATTERN (A B*)
  DEFINE B AS ts <= PREV(ts) + INTERVAL '{gap}' MILLISECOND
)
