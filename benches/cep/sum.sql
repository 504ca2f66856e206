-- Rows for as long as they add up to little, and the next one.
SELECT * FROM event MATCH_RECOGNIZE (
  PARTITION BY k ORDER BY ts
  MEASURES FIRST(A.ts) AS began, B.ts AS ended, SUM(A.amount) AS total, COUNT(A.*) AS events
  ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW
  PATTERN (A+ B)
  DEFINE A AS SUM(A.amount) < 3000
)
