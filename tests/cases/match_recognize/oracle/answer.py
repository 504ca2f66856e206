"""Answers the queries of `cases.json` by `oracle.py`: `python3 answer.py`, after the test has written them (see README.md)."""

import datetime
import json
import pathlib

import oracle

FILE = pathlib.Path(__file__).with_name("cases.json")
COLUMNS = ["k", "t", "id", "v", "s", "d"]
# What the oracle does not know, or has other rules for than SQL (division and remainders of negative numbers).
UNKNOWN = ["match_status", "STRING_AGG", "VAR_POP", "VAR_SAMP", "STDDEV", "EMIT PARTIAL", " / ", " % ", "INTERVAL '"]
DISTINCT = " IS DISTINCT FROM "


def cell(value):
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.000")
    return [cell(item) for item in value] if isinstance(value, list) else value


def without_distinct(body):
    """`(a IS DISTINCT FROM b)`, which the oracle does not know, in other words; `a` is a column."""
    while DISTINCT in body:
        middle = body.index(DISTINCT)
        begin, end = body.rindex("(", 0, middle), middle + len(DISTINCT)
        depth = 0
        while depth > 0 or body[end] != ")":
            depth += {"(": 1, ")": -1}.get(body[end], 0)
            end += 1
        a, b = body[begin + 1 : middle], body[middle + len(DISTINCT) : end]
        case = f"(CASE WHEN ({a} IS NULL) THEN (NOT ({b} IS NULL)) WHEN ({b} IS NULL) THEN TRUE ELSE ({a} <> {b}) END)"
        body = body[:begin] + case + body[end + 1 :]
    return body


def answer(clause, rows):
    body, within = without_distinct(clause), None
    if " WITHIN INTERVAL '" in body:
        before, rest = body.split(" WITHIN INTERVAL '")
        seconds, rest = rest.split("' SECOND", 1)
        body, within = before + rest, datetime.timedelta(seconds=int(seconds))
    if any(word in body for word in UNKNOWN):
        return None
    match = oracle.MR(body)
    match.within = within
    try:
        return [[cell(value) for value in row] for row in match.run(COLUMNS, rows)[1]]
    except oracle.Err as error:
        return "skip" if "skip" in str(error) else None


def main():
    start = datetime.datetime(1970, 1, 1)
    data = json.loads(FILE.read_text())
    for table in data["tables"]:
        for row in table:
            row[1] = start + datetime.timedelta(seconds=row[1])
    for case in data["cases"]:
        case["expected"] = answer(case["clause"], data["tables"][case["table"]])
    for table in data["tables"]:
        for row in table:
            row[1] = int((row[1] - start).total_seconds())
    lines = ",\n".join(json.dumps(case) for case in data["cases"])
    tables = ",\n".join(json.dumps(table) for table in data["tables"])
    FILE.write_text(f'{{"tables": [\n{tables}\n], "cases": [\n{lines}\n]}}\n')
    answered = sum(case["expected"] is not None for case in data["cases"])
    print(f"{answered} of {len(data['cases'])} queries have an answer")


main()
