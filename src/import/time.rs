//! Timestamps as written in files.

use chrono::format::{Fixed, Item, Numeric, Parsed, StrftimeItems, parse};
use chrono::{DateTime, FixedOffset, LocalResult, NaiveTime, TimeZone};
use chrono_tz::Tz;

use crate::calendar::start_of_day;
use crate::clock::Timestamp;

#[derive(Clone, Debug)]
enum Format {
    Rfc3339,
    Items(Vec<Item<'static>>),
}

/// The formats of a feed, tried in turn, and the time zone of timestamps without one.
#[derive(Clone, Debug)]
pub struct TimeFormats {
    formats: Vec<Format>,
    zone: Tz,
}

impl TimeFormats {
    pub fn parse(formats: &[String], zone: &str) -> Result<TimeFormats, String> {
        let zone = zone.parse().map_err(|_| format!("{zone:?} is not a time zone, such as Europe/London"))?;
        let formats = formats
            .iter()
            .map(|format| match format.as_str() {
                "rfc3339" => Ok(Format::Rfc3339),
                format => match StrftimeItems::new(format).parse_to_owned() {
                    Ok(items) if has_half_a_day(&items) => {
                        Err(format!("{format:?} needs %p beside the hour of half a day"))
                    }
                    Ok(items) if items.contains(&Item::Fixed(Fixed::TimezoneName)) => Err(format!(
                        "{format:?}: names of zones (%Z) are not read; use %z for an offset, or `timezone`"
                    )),
                    Ok(items) => Ok(Format::Items(items)),
                    Err(_) => Err(format!("{format:?} is not a format of times, such as %Y-%m-%d %H:%M:%S")),
                },
            })
            .collect::<Result<Vec<_>, _>>()?;
        if formats.is_empty() { Err("`time_formats` is empty".into()) } else { Ok(TimeFormats { formats, zone }) }
    }

    /// Error: what is wrong with the timestamp.
    pub fn read(&self, text: &str) -> Result<Timestamp, String> {
        let read = self.formats.iter().find_map(|format| self.read_as(text, format));
        read.ok_or_else(|| format!("{text:?} is not a time in any of the formats"))?
    }

    fn read_as(&self, text: &str, format: &Format) -> Option<Result<Timestamp, String>> {
        let items = match format {
            Format::Rfc3339 => return DateTime::parse_from_rfc3339(text).ok().map(|at| Ok(at.to_utc().into())),
            Format::Items(items) => items,
        };
        let mut parsed = Parsed::new();
        parse(&mut parsed, text, items.iter()).ok()?;
        if let Some(seconds) = parsed.timestamp() {
            let nanoseconds = parsed.nanosecond().unwrap_or_default();
            return DateTime::from_timestamp(seconds, nanoseconds).map(|at| Ok(at.into()));
        }
        let day = parsed.to_naive_date().ok()?;
        if !has_time(&parsed) && parsed.offset().is_none() {
            return Some(Ok(start_of_day(day, self.zone)));
        }
        let local = day.and_time(time_of_day(&mut parsed)?);
        if let Some(offset) = parsed.offset().and_then(FixedOffset::east_opt) {
            return offset.from_local_datetime(&local).single().map(|at| Ok(at.to_utc().into()));
        }
        Some(match self.zone.from_local_datetime(&local) {
            // Of an ambiguous local time, the earlier.
            LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Ok(at.to_utc().into()),
            LocalResult::None => Err(format!("{text:?} is a time that {} skipped", self.zone)),
        })
    }
}

fn has_time(parsed: &Parsed) -> bool {
    parsed.hour_mod_12().is_some() || parsed.minute().is_some()
}

/// A date alone means its start; so does an hour alone.
fn time_of_day(parsed: &mut Parsed) -> Option<NaiveTime> {
    if !has_time(parsed) {
        return Some(NaiveTime::MIN);
    }
    if parsed.minute().is_none() {
        parsed.set_minute(0).ok()?;
    }
    parsed.to_naive_time().ok()
}

/// A 12-hour clock without AM or PM.
fn has_half_a_day(items: &[Item<'_>]) -> bool {
    let is_half = |item: &Item<'_>| matches!(item, Item::Numeric(Numeric::Hour12, _));
    let tells = |item: &Item<'_>| matches!(item, Item::Fixed(Fixed::LowerAmPm | Fixed::UpperAmPm));
    items.iter().any(is_half) && !items.iter().any(tells)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, format: &str, zone: &str) -> Result<String, String> {
        let formats = TimeFormats::parse(&[format.to_owned()], zone)?;
        Ok(formats.read(text)?.to_utc().expect("in the calendar").to_rfc3339())
    }

    #[test]
    fn times_are_read_in_their_zone() {
        for (text, format, zone, utc) in [
            ("19970101", "%Y%m%d", "UTC", "1997-01-01T00:00:00+00:00"),
            ("1 June 2017", "%d %B %Y", "UTC", "2017-06-01T00:00:00+00:00"),
            ("1 Aug 2017", "%d %B %Y", "UTC", "2017-08-01T00:00:00+00:00"),
            ("07/01/2024 14:30", "%m/%d/%Y %H:%M", "America/New_York", "2024-07-01T18:30:00+00:00"),
            ("2024-07-01T14:30:00+02:00", "rfc3339", "America/New_York", "2024-07-01T12:30:00+00:00"),
            ("2024-07-01 14:30:00 +0200", "%Y-%m-%d %H:%M:%S %z", "UTC", "2024-07-01T12:30:00+00:00"),
            ("1700000000", "%s", "Europe/London", "2023-11-14T22:13:20+00:00"),
            ("1700000000.75", "%s%.f", "Europe/London", "2023-11-14T22:13:20.750+00:00"),
            ("2024-10-27 01:30", "%Y-%m-%d %H:%M", "Europe/London", "2024-10-27T00:30:00+00:00"),
            // Where the clock is put forward at midnight, the day begins at one.
            ("2024-03-10", "%Y-%m-%d", "America/Havana", "2024-03-10T05:00:00+00:00"),
            ("2024-07-01 17", "%Y-%m-%d %H", "UTC", "2024-07-01T17:00:00+00:00"),
            ("2024-07-01 5 PM", "%Y-%m-%d %I %p", "UTC", "2024-07-01T17:00:00+00:00"),
            ("12/1/2009 7:45:00 AM", "%m/%d/%Y %I:%M:%S %p", "UTC", "2009-12-01T07:45:00+00:00"),
        ] {
            assert_eq!(read(text, format, zone).as_deref(), Ok(utc), "{text}");
        }
    }

    #[test]
    fn times_as_programs_write_them_need_no_format() {
        let formats =
            TimeFormats::parse(&super::super::mapping::default_formats(), "America/New_York").expect("formats");
        for (text, utc) in [
            ("2024-07-01T14:30:00+02:00", "2024-07-01T12:30:00+00:00"),
            ("2024-07-01T14:30:00", "2024-07-01T18:30:00+00:00"),
            ("2024-07-01T14:30:00.25", "2024-07-01T18:30:00.250+00:00"),
            ("2024-07-01 14:30:00", "2024-07-01T18:30:00+00:00"),
            ("2024-07-01 14:30:00.000", "2024-07-01T18:30:00+00:00"),
            ("2024-07-01 14:30", "2024-07-01T18:30:00+00:00"),
            ("2024-07-01", "2024-07-01T04:00:00+00:00"),
        ] {
            let read = formats.read(text).map(|at| at.to_utc().expect("in the calendar").to_rfc3339());
            assert_eq!(read.as_deref(), Ok(utc), "{text}");
        }
    }

    #[test]
    fn bad_times_zones_and_formats_are_told() {
        assert!(read("2024-03-31 01:30", "%Y-%m-%d %H:%M", "Europe/London").is_err_and(|e| e.contains("skipped")));
        assert!(read("2024-02-30", "%Y-%m-%d", "UTC").is_err());
        assert!(read("2024-02-01", "%Y-%m-%d", "Europe/Atlantis").is_err_and(|e| e.contains("Atlantis")));
        assert!(read("2024-02-01 05:30", "%Y-%m-%d %I:%M", "UTC").is_err_and(|e| e.contains("%p")));
        assert!(read("2024-02-01 30", "%Y-%m-%d %M", "UTC").is_err());
        assert!(read("2024-02-01 05:30 EST", "%Y-%m-%d %H:%M %Z", "UTC").is_err_and(|e| e.contains("use %z")));
        assert!(read("2024-02-01", "%Q", "UTC").is_err_and(|e| e.contains("%Q")));
    }
}
