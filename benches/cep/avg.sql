-- Rows whose mean is low so far, and then a high one.
SELECT * FROM event MATCH_RECOGNIZE (
  PARTITION BY k ORDER BY ts
  MEASURES FIRST(A.ts) AS began, B.ts AS ended, AVG(A.amount) AS mean, COUNT(A.*) AS events
  ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW
  PATTERN (A+ B)
  DEFINE A AS AVG(A.amount) < 400, B AS amount >= 900
)
