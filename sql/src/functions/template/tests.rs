//! The examples of PostgreSQL's manual (9.8), and answers of PostgreSQL 15 to others.

use arrow::datatypes::IntervalMonthDayNano;
use chrono::{NaiveDate, NaiveDateTime};
use proptest::prelude::*;

use super::*;

fn time(text: &str) -> NaiveDateTime {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").expect(text)
}

fn written(moment: &Moment, pattern: &str) -> String {
    let mut out = String::new();
    match Template::new(pattern).write(moment, &mut out) {
        Ok(()) => out,
        Err(word) => format!("no {word}"),
    }
}

#[test]
fn times_are_written() {
    let friday = "2022-04-08 07:30:05.060709";
    let sunday = "2002-04-20 17:31:12.66";
    for (at, pattern, expected) in [
        (sunday, "HH12:MI:SS", "05:31:12"),
        (sunday, "HH24:MI:SS AM a.m.", "17:31:12 PM p.m."),
        (friday, "Q", "2"),
        (friday, "FMDD FMMonth", "8 April"),
        (friday, "D ID J WW W IW CC", "6 5 2459678 14 2 14 21"),
        (friday, "SSSS SSSSS", "27005 27005"),
        (friday, "HH12:MI am P.M.", "07:30 am A.M."),
        (friday, "Y,YYY YYYY YYY YY Y IYYY IYY IY I", "2,022 2022 022 22 2 2022 022 22 2"),
        (friday, "MS US FF1 FF2 FF3 FF4 FF5 FF6 ms ff3", "060 060709 0 06 060 0607 06070 060709 060 060"),
        (friday, "|MONTH|Month|month|MON|Mon|mon|MM|", "|APRIL    |April    |april    |APR|Apr|apr|04|"),
        (friday, "|DAY|Day|day|DY|Dy|dy|DDD|IDDD|DD|", "|FRIDAY   |Friday   |friday   |FRI|Fri|fri|098|096|08|"),
        (friday, "FMDay, FMDD FMHH12:FMMI:FMSS", "Friday, 8 7:30:5"),
        (friday, "TMMonth TMday", "April friday"),
        (friday, "DDth DDTH FMDDth FMDDDth HH24TH", "08th 08TH 8th 98th 07TH"),
        ("2001-01-01 00:00:00", "FMDDth YYYYth", "1st 2001st"),
        ("2001-01-22 13:00:00", "FMDDth FMHH24th", "22nd 13th"),
        (friday, "|RM|rm|FMRM|", "|IV  |iv  |IV|"),
        (friday, "TZ tz TZH:TZM OF", "UTC utc +00:00 +00"),
        (friday, "BC B.C. ad a.d.", "AD A.D. ad a.d."),
        ("0000-03-01 00:00:00", "YYYY BC CC", "0001 BC -01"),
        ("-0099-03-01 00:00:00", "YYYY b.c. CC", "0100 b.c. -01"),
        (friday, "\"The year is\" YYYY, \"a \\\"q\\\"\" \\\"x", "The year is 2022, a \"q\" \"x"),
        (friday, "FXYYYY-MM-DD\"T\"HH24:MI:SS.US", "2022-04-08T07:30:05.060709"),
        (friday, "yyyy-mm-dd hh24:mi:ss", "2022-04-08 07:30:05"),
        (friday, "Dd YyYy", "66 2222"),
        ("2005-01-01 00:00:00", "IYYY-IW-ID IDDD YYYY-WW", "2004-53-6 370 2005-01"),
        ("2000-01-01 00:00:00", "CC", "20"),
        ("2001-01-01 00:00:00", "CC", "21"),
        ("2020-01-02 00:10:00", "HH HH24 J", "12 00 2458851"),
    ] {
        assert_eq!(written(&Moment::of_clock(time(at), 0, Some("UTC")), pattern), expected, "{at} {pattern}");
    }
    let east = Moment::of_clock(time(sunday), 5 * 3_600 + 1_800, None);
    assert_eq!(written(&east, "TZH TZM OF TZ"), "+05 30 +05:30 +05:30");
    let west = Moment::of_clock(time(sunday), -3_600, None);
    assert_eq!(written(&west, "TZH:TZM OF FMOF tz"), "-01:00 -01 -1 -01");
}

#[test]
fn intervals_are_written() {
    let interval = |months, days, seconds: i64| {
        Moment::of_interval(IntervalMonthDayNano::new(months, days, seconds * 1_000_000_000))
    };
    for (moment, pattern, expected) in [
        (interval(0, 0, 54_123), "HH24:MI:SS HH12", "15:02:03 03"),
        (interval(0, 0, 360_000), "HH24 HH12 AM", "100 04 AM"),
        (interval(14, 40, 0), "YYYY MM DD DDD Q", "0001 02 40 460 1"),
        (interval(0, -3, -3_723), "DD HH24:MI:SS", "-3 -01:-02:-03"),
        (interval(-13, 0, 0), "YYYY MM RM", "-0001 -01 XII "),
        (interval(0, 1, 0), "DD RM|Q|", "01 ||"),
        (interval(1, 0, 0), "DD Month", "no Month"),
        (interval(1, 0, 0), "TZ", "no TZ"),
    ] {
        assert_eq!(written(&moment, pattern), expected, "{pattern}");
    }
}

fn read(text: &str, pattern: &str) -> String {
    match Template::new(pattern).read(text) {
        Ok(Reading { time, offset_s }) => {
            let offset = offset_s.map_or(String::new(), |offset_s| format!(" {offset_s}"));
            format!("{}{offset}", time.format("%Y-%m-%d %H:%M:%S%.f"))
        }
        Err(misfit) => {
            let place = misfit.place.map_or(String::new(), |place| format!("{place} "));
            format!("{place}{}", misfit.reason)
        }
    }
}

#[test]
fn texts_are_read() {
    for (text, pattern, expected) in [
        ("2022/12/25 15", "YYYY/MM/DD HH24", "2022-12-25 15:00:00"),
        ("2011-12-18 11:38 P.M.", "YYYY-MM-DD HH12:MI P.M.", "2011-12-18 23:38:00"),
        ("2001-04-17 00:00:00.900006", "YYYY-MM-DD HH24:MI:SS.US", "2001-04-17 00:00:00.900006"),
        ("15:24", "HH24:MI", "0000-01-01 15:24:00"),
        ("1985 January 12", "YYYY FMMonth DD", "1985-01-12 00:00:00"),
        ("1985 FMMonth 12", "YYYY \"FMMonth\" DD", "1985-01-12 00:00:00"),
        ("2021/12/30 14:52:49 +03:30", "YYYY/MM/DD HH24:MI:SS TZH:TZM", "2021-12-30 14:52:49 12600"),
        ("2011-12-18 11:38 -05", "YYYY-MM-DD HH12:MI TZH", "2011-12-18 11:38:00 -18000"),
        ("2000 JUN", "YYYY MON", "2000-06-01 00:00:00"),
        ("97/Feb/16", "YY/Mon/DD", "1997-02-16 00:00:00"),
        ("97/Feb/16", "FXYY:Mon:DD", "1997-02-16 00:00:00"),
        ("2000    JUN", "YYYY MON", "2000-06-01 00:00:00"),
        ("2000/JUN", "YYYY MON", "2000-06-01 00:00:00"),
        ("  2000--JUN", "YYYY/-MON", "2000-06-01 00:00:00"),
        ("05121445482000", "MMDDHH24MISSYYYY", "2000-05-12 14:45:48"),
        ("2000January09Sunday", "YYYYFMMonthDDFMDay", "2000-01-09 00:00:00"),
        ("1,582nd VIII 21", "Y,YYYth FMRM DD", "1582-08-21 00:00:00"),
        (
            "15 \"text between quote marks\" 98 54 45",
            "HH24 \"\\\"text between quote marks\\\"\" YY MI SS",
            "1998-01-01 15:54:45",
        ),
        ("995-1116", "YYY-MMDD", "1995-11-16 00:00:00"),
        ("9-1116", "Y-MMDD", "2009-11-16 00:00:00"),
        ("2005527", "YYYYWWD", "2005-12-24 00:00:00"),
        ("2005527", "IYYYIWID", "2006-01-01 00:00:00"),
        ("2005300", "YYYYDDD", "2005-10-27 00:00:00"),
        ("2005302", "IYYYIDDD", "2005-10-31 00:00:00"),
        ("2010-2", "YYYY-Q", "2010-01-01 00:00:00"),
        ("2458872", "J", "2020-01-23 00:00:00"),
        ("44-02-01 11:12:13 BC", "YYYY-MM-DD HH24:MI:SS BC", "-0043-02-01 11:12:13"),
        ("21 24", "CC YY", "2024-01-01 00:00:00"),
        ("20", "CC", "1901-01-01 00:00:00"),
        ("2020-05-08 45000", "YYYY-MM-DD SSSS", "2020-05-08 12:30:00"),
        ("12:00 am", "HH:MI AM", "0000-01-01 00:00:00"),
        ("2024-02-29 .5", "YYYY-MM-DD .MS", "2024-02-29 00:00:00.500"),
        ("2024-02-29 00:00:00.123", "YYYY-MM-DD HH24:MI:SS.FF6", "2024-02-29 00:00:00.123"),
        ("2024-02-29 and more", "YYYY-MM-DD", "2024-02-29 00:00:00"),
        ("2024-02", "YYYY-MM-DD", "2024-02-01 00:00:00"),
        ("199711", "YYYYMMDD", "1997-11-01 00:00:00"),
    ] {
        assert_eq!(read(text, pattern), expected, "{text} by {pattern}");
    }
}

#[test]
fn what_does_not_fit_is_told_with_its_place() {
    for (text, pattern, expected) in [
        ("2022-13-01", "YYYY-MM-DD", "2022-13-01 is no date"),
        ("2023-02-29", "YYYY-MM-DD", "2023-02-29 is no date"),
        ("2024-x1-01", "YYYY-MM-DD", "6 `MM` is a number, and 'x1-01' is none"),
        ("2024 Januar", "YYYY Month", "6 `Month`: 'Januar' is no name of one"),
        ("1997111", "YYYYMMDDHH24", "7 `DD` takes 2 digits, and '1' has fewer; `FMDD` takes as many as there are"),
        ("25:00", "HH24:MI", "25:00:00.000000 is no time of day"),
        ("13:00 PM", "HH:MI PM", "13 is no hour of a clock with twelve; `HH24` takes hours from 0 to 23"),
        (
            "2005 52",
            "YYYY IW",
            "6 `IW` and what stands before it are of two calendars: weeks of ISO 8601 go with `IYYY`, `IW`, `ID` and `IDDD` only",
        ),
        ("2024 UTC", "YYYY TZ", "6 `TZ` is of TO_CHAR only; offsets are read by `TZH:TZM`"),
        ("12 13", "MM MM", "4 `MM` says 13, and what stands before it 12"),
        ("99999999999", "YYYY", "1 `YYYY`: 99999999999 is too large"),
        ("2023 366", "YYYY DDD", "the year 2023 has no day 366"),
        ("366", "DDD", "a day of the year says no date without the year"),
        ("ü", "YYYY", "1 `YYYY` is a number, and 'ü' is none"),
    ] {
        assert_eq!(read(text, pattern), expected, "{text} by {pattern}");
    }
}

#[test]
fn the_kind_of_a_pattern_is_seen_in_it() {
    for (pattern, is_template) in [
        ("YYYY-MM-DD", true),
        ("yyyy/mm/dd hh24:mi", true),
        ("HH12:MI", true),
        ("DD Mon", true),
        ("J", true),
        ("FMDD-MM", true),
        ("FXyyyy-MM", false),
        ("FXyyyy-MON", true),
        ("yyyy-MM-dd HH:mm:ss.SSS", false),
        ("yyyy-MM-dd'T'HH:mm:ss", false),
        ("yyyy-MM-ddTHH:mm", false),
        ("EEE, dd MMM yyyy", false),
        ("HHmmss", false),
        ("dd/MM/yy hh:mm a", false),
        ("yyyy 'Month'", false),
        ("DDD", false),
        ("", false),
    ] {
        assert_eq!(Template::is_meant(pattern), is_template, "{pattern}");
    }
}

/// PostgreSQL 15's answers.
#[test]
fn numbers_are_written() {
    for (value, scale, pattern, expected) in [
        (-1, 1, "99.99", "  -.10"),
        (-1, 1, "FM9.99", "-.1"),
        (-1, 1, "FM90.99", "-0.1"),
        (1, 1, "0.9", " 0.1"),
        (12, 0, "9990999.9", "    0012.0"),
        (12, 0, "FM9990999.9", "0012."),
        (485, 0, "999", " 485"),
        (-485, 0, "999", "-485"),
        (485, 0, "9 9 9", " 4 8 5"),
        (1485, 0, "9,999", " 1,485"),
        (1485, 0, "9G999", " 1,485"),
        (1485, 1, "999.999", " 148.500"),
        (1485, 1, "FM999.999", "148.5"),
        (1485, 1, "FM999.990", "148.500"),
        (31485, 1, "9G999D999", " 3,148.500"),
        (-485, 0, "999S", "485-"),
        (-485, 0, "999MI", "485-"),
        (485, 0, "999MI", "485 "),
        (485, 0, "FM999MI", "485"),
        (485, 0, "PL999", "+ 485"),
        (485, 0, "SG999", "+485"),
        (-485, 0, "9SG99", "4-85"),
        (-485, 0, "999PR", "<485>"),
        (485, 0, "L999", "  485"),
        (482, 0, "999th", " 482nd"),
        (485, 0, "\"Good number:\"999", "Good number: 485"),
        (4858, 1, "\"Pre:\"999\" Post:\" .999", "Pre: 485 Post: .800"),
        (1234567, 0, "999.9", " ###.#"),
        (99995, 3, "FM999.99", "100."),
        (0, 0, "FM9.9", "0."),
        (0, 0, "9.9", "  .0"),
        (125, 2, "9.9", " 1.3"),
        (-125, 2, "S9.9", "-1.3"),
        (7, -2, "9999", "  700"),
    ] {
        let template = NumberTemplate::new(pattern).expect(pattern);
        let digits = Digits::of_decimal(value, scale, template.places()).expect("it fits");
        let mut out = String::new();
        template.write(&digits, &mut out);
        assert_eq!(out, expected, "{value}e-{scale} {pattern}");
    }
    for (pattern, reason) in [
        ("9.9.9", "two points"),
        ("S9S", "do not go together"),
        ("9PR9", "stands before `PR`"),
        ("9V9", "`V`"),
        ("9.9EEEE", "`EEEE`"),
        ("RN", "`RN`"),
    ] {
        let error = NumberTemplate::new(pattern).expect_err(pattern);
        assert!(error.contains(reason), "{pattern}: {error}");
    }
    let double = Digits::of_double(-1234567.125, 12);
    assert_eq!((double.negative, double.whole.as_str(), double.behind.as_str()), (true, "1234567", "12500000"));
}

proptest! {
    /// What is written by a pattern that leaves nothing out is read back by it.
    #[test]
    fn what_is_written_is_read(
        days in -700_000i32..2_900_000,
        microsecond_of_day in 0i64..86_400_000_000,
        pattern in prop::sample::select(vec![
            "YYYY-MM-DD HH24:MI:SS.US",
            "YYYY-MM-DD HH24:MI:SS.US BC",
            "FMDD FMMonth YYYY A.D. FMHH12:FMMI:FMSS.US p.m.",
            "IYYY-IW-ID SSSSS .US BC",
            "IYYY IDDD HH24MISS US BC",
            "YYYYDDD HH12:MI:SS.FF6 AM BC",
            "DyDDMonYYYY HH24:MI:SS.US ad",
            "YYYYth RM DDth \"at\" HH24:MI:SS:US BC",
            "J HH24:MI:SS.US",
            "FXYYYYMMDDHH24MISSUS BC",
            "Y,YYY/MM/DD HH24:MI:SS MSUS BC",
        ]),
    ) {
        let date = NaiveDate::default() + chrono::TimeDelta::days(i64::from(days));
        let without_millisecond = if pattern.contains("MSUS") { microsecond_of_day / 1_000_000 * 1_000_000 } else { microsecond_of_day };
        let at = date.and_time(chrono::NaiveTime::MIN) + chrono::TimeDelta::microseconds(without_millisecond);
        // Years before 1 only by a pattern with an era, and of four digits at most.
        let year = chrono::Datelike::year(&at);
        let has_era = pattern.to_uppercase().contains("BC") || pattern.to_uppercase().contains("AD") || pattern.contains("A.D.");
        prop_assume!(pattern.starts_with('J') || (has_era && year > -9_998 || year > 1) && year < 9_998);
        // Of ISO years the first day of the first year lies in the one before.
        prop_assume!(!pattern.starts_with("IYYY") || year > 1);
        prop_assume!(!pattern.starts_with('J') || days > -2_440_588);
        let text = written(&Moment::of_clock(at, 0, Some("")), pattern);
        prop_assert_eq!(read(&text, pattern), at.format("%Y-%m-%d %H:%M:%S%.f").to_string(), "{}", text);
    }

    /// Any pattern and any text come to an end, without a panic.
    #[test]
    fn anything_is_read_or_refused(
        text in "[0-9A-Za-z:., +ü-]{0,20}",
        pattern in "(FX)?((FM|TM)?(YYYY|Y,YYY|YY|IYYY|MM|MON|month|DD|DDD|J|HH|HH24|MI|SS|MS|US|FF3|AM|b.c.|TZH|TZM|W|WW|IW|ID|Q|CC|RM|SSSS|OF)(th|TH)?[-: ü\"x]?){0,5}",
    ) {
        let template = Template::new(&pattern);
        let _ = template.read(&text);
        let mut out = String::new();
        let _ = template.write(&Moment::of_clock(time("2024-02-29 12:34:56.789"), -5_400, Some("X")), &mut out);
        let _ = template.write(&Moment::of_interval(IntervalMonthDayNano::new(i32::MIN, i32::MAX, i64::MIN)), &mut out);
        let _ = Template::is_meant(&text);
    }
}
