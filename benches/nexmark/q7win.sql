-- The maxima behind q7 (highest bid): the greatest price in each ten seconds.
SELECT window_start, window_end, max(price) AS maxprice
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR("dateTime"), INTERVAL '10' SECOND))
GROUP BY window_start, window_end;
