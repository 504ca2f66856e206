-- The counts behind q5 (hot items): bids on each auction in the last ten seconds, every two seconds.
SELECT auction, count(*) AS num, window_start, window_end
FROM TABLE(HOP(TABLE bid, DESCRIPTOR("dateTime"), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
GROUP BY auction, window_start, window_end;
