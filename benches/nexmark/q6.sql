-- q6, average selling price of a seller: over the winning bid of each auction and of the ten before it. Flink cannot run it (`OVER` on
-- input that is taken back), and the benchmark's text is out of scope with its own aliases; this one says the same in scope. Winning bids
-- of one millisecond go by auction: the benchmark leaves their order open, and then there is no one answer.
SELECT Q.seller, AVG(Q.price) OVER (PARTITION BY Q.seller ORDER BY Q.dateTime, Q.id ROWS BETWEEN 10 PRECEDING AND CURRENT ROW)
FROM (
  SELECT id, seller, price, dateTime, ROW_NUMBER() OVER (PARTITION BY id, seller ORDER BY price DESC) AS rownum
  FROM (
    SELECT A.id, A.seller, B.price, B.dateTime
    FROM auction AS A, bid AS B
    WHERE A.id = B.auction AND B.dateTime BETWEEN A.dateTime AND A.expires
  )
) AS Q
WHERE Q.rownum <= 1;
