//! Modes that watch a server: `--stat`, `--latency`, `--latency-history`, `--latency-dist`. They go on when the server
//! comes back.

use std::thread::sleep;
use std::time::Duration;

use super::format::Style;
use super::link::Link;
use super::out::{self, Stop, complain, lossy, say};
use super::session::{Session, wait_us};
use crate::base::number::leading_i64;
use crate::base::time::Clock;
use crate::resp::value::Value;

const SAMPLE_EVERY: Duration = Duration::from_millis(10);
const HISTORY_MS: i64 = 15_000;
const OUTPUT_MS: i64 = 1000;

/// A connection that is made again when it breaks.
struct Lasting {
    session: Session,
    link: Option<Link>,
}

impl Lasting {
    fn new(mut session: Session) -> Result<Lasting, Stop> {
        let link = Some(session.take_link()?);
        Ok(Lasting { session, link })
    }

    fn command(&mut self, args: &[&str]) -> Result<Value, Stop> {
        let mut tries = 0;
        loop {
            if let Some(link) = &mut self.link {
                match link.command(args) {
                    Ok(value) => {
                        if tries > 0 {
                            say!("\r\x1b[0K");
                        }
                        return Ok(value);
                    }
                    Err(error) if error.is_io() => {}
                    Err(error) => {
                        complain!("Error: {error}\n");
                        return Err(Stop(1));
                    }
                }
            }
            tries += 1;
            say!("\r\x1b[0KReconnecting... {tries}\r");
            out::flush();
            self.link = self.session.dial().ok();
            sleep(Duration::from_secs(1));
        }
    }
}

/// A field of INFO, up to a comma.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = info.split_once(name)?;
    rest.get(1..)?.split([',', '\r']).next()
}

fn number(info: &str, name: &str) -> Option<i64> {
    Some(leading_i64(field(info, name)?.as_bytes()).0)
}

/// So many bytes, for people.
fn human(bytes: i64) -> String {
    let (sign, n) = match bytes {
        ..0 => ("-", bytes.unsigned_abs() as f64),
        _ => ("", bytes as f64),
    };
    let units = [(1u64 << 10, "K"), (1 << 20, "M"), (1 << 30, "G")];
    let unit = units.iter().rev().find(|(size, _)| n >= *size as f64);
    match unit {
        Some((size, letter)) => format!("{sign}{:.2}{letter}", n / *size as f64),
        None => format!("{sign}{n}B"),
    }
}

/// `--stat`: a line about the server every second.
pub fn stat(session: Session) -> Result<(), Stop> {
    let interval_us = match session.options.interval_us {
        0 => 1_000_000,
        us => us,
    };
    let mut server = Lasting::new(session)?;
    let mut requests = 0;
    for line in 0u64.. {
        let info = match server.command(&["INFO"])? {
            Value::Error(why) => {
                complain!("ERROR: {}\n", lossy(&why));
                return Err(Stop(1));
            }
            value => lossy(value.as_bytes().unwrap_or_default()).into_owned(),
        };
        if line.is_multiple_of(20) {
            say!(
                "------- data ------ --------------------- load -------------------- - child -\n\
                keys       mem      clients blocked requests            connections          \n"
            );
        }
        requests = stat_line(&info, requests);
        out::flush();
        wait_us(interval_us);
    }
    Ok(())
}

/// Prints the line. Gives the number of requests; `before` is that of the line before.
fn stat_line(info: &str, before: i64) -> i64 {
    let value = |name: &str| number(info, name).unwrap_or(i64::MIN);
    let keys: i64 = (0..20)
        .filter_map(|db| number(info, &format!("db{db}:keys")))
        .sum();
    let requests = value("total_commands_processed");
    let more = match before {
        0 => 0,
        before => requests.wrapping_sub(before),
    };
    say!(
        "{keys:<11}{:<8} {:<8}{:<8}{:<19} {:<12}",
        human(value("used_memory")),
        value("connected_clients"),
        value("blocked_clients"),
        format!("{requests} (+{more})"),
        value("total_connections_received")
    );
    let does = |name: &str| number(info, name).is_some_and(|n| n != 0);
    let (save, aof) = (does("bgsave_in_progress"), does("aof_rewrite_in_progress"));
    match (save, aof, does("loading")) {
        (true, false, false) => say!("SAVE"),
        (false, true, false) => say!("AOF"),
        (true, true, false) => say!("SAVE+AOF"),
        (false, false, true) => say!("LOAD"),
        _ => {}
    }
    say!("\n");
    requests
}

/// What PINGs took, in milliseconds.
#[derive(Default)]
struct Samples {
    min: u64,
    max: u64,
    sum: u64,
    count: u64,
}

impl Samples {
    fn add(&mut self, ms: u64) {
        self.min = if self.count == 0 {
            ms
        } else {
            self.min.min(ms)
        };
        self.max = self.max.max(ms);
        self.sum += ms;
        self.count += 1;
    }

    fn print(&self, style: Style) {
        let Samples {
            min, max, count, ..
        } = self;
        let avg = self.sum as f64 / *count as f64;
        match style {
            Style::Standard => {
                say!("min: {min}, max: {max}, avg: {avg:.2} ({count} samples)");
                out::flush();
            }
            Style::Csv => say!("{min},{max},{avg:.2},{count}\n"),
            Style::Raw => say!("{min} {max} {avg:.2} {count}\n"),
            Style::Json => {
                say!("{{\"min\": {min}, \"max\": {max}, \"avg\": {avg:.2}, \"count\": {count}}}\n")
            }
            Style::QuotedJson => {}
        }
    }
}

/// `--latency`, `--latency-history`: how long PING takes, from second to second.
pub fn latency(session: Session) -> Result<(), Stop> {
    let options = session.options.clone();
    let interval_ms = options.interval_us / 1000;
    let default = |ms: i64| {
        if options.interval_us == 0 {
            ms
        } else {
            interval_ms
        }
    };
    let (history_ms, output_ms) = (default(HISTORY_MS), default(OUTPUT_MS));
    let (style, clock) = (options.style, Clock::system());
    let now_ms = || clock.mono_ns() / 1_000_000;
    let mut server = Lasting::new(session)?;
    let (mut samples, mut since_ms) = (Samples::default(), now_ms());
    let passed = |since_ms: u64| (now_ms() - since_ms) as i64;
    loop {
        let start_ms = clock.unix_us() / 1000;
        server.command(&["PING"])?;
        samples.add((clock.unix_us() / 1000).saturating_sub(start_ms));
        if style == Style::Standard {
            say!("\x1b[0G\x1b[2K");
            samples.print(style);
        } else if options.latency_history {
            samples.print(style);
        } else if passed(since_ms) > output_ms {
            samples.print(style);
            return Ok(());
        }
        if options.latency_history && passed(since_ms) > history_ms {
            say!(
                " -- {:.2} seconds range\n",
                passed(since_ms) as f64 / 1000.0
            );
            since_ms = now_ms();
            samples = Samples::default();
        }
        sleep(SAMPLE_EVERY);
    }
}

/// The colours of the spectrum, the rarest first.
const COLOURS: &[u8] = &[
    0, 233, 234, 235, 237, 239, 241, 243, 245, 247, 144, 143, 142, 184, 226, 214, 208, 202, 196,
];
const GREYS: &[u8] = &[
    0, 233, 234, 235, 237, 239, 241, 243, 245, 247, 249, 251, 253,
];

/// Upper ends in microseconds, with the letter that stands for each; the last has none.
const BANDS: &[(u64, char)] = &[
    (10, '.'),
    (125, '-'),
    (250, '*'),
    (500, '#'),
    (1000, '1'),
    (2000, '2'),
    (3000, '3'),
    (4000, '4'),
    (5000, '5'),
    (6000, '6'),
    (7000, '7'),
    (8000, '8'),
    (9000, '9'),
    (10_000, 'A'),
    (20_000, 'B'),
    (30_000, 'C'),
    (40_000, 'D'),
    (50_000, 'E'),
    (100_000, 'F'),
    (200_000, 'G'),
    (300_000, 'H'),
    (400_000, 'I'),
    (500_000, 'J'),
    (1_000_000, 'K'),
    (2_000_000, 'L'),
    (4_000_000, 'M'),
    (8_000_000, 'N'),
    (16_000_000, 'O'),
    (30_000_000, 'P'),
    (60_000_000, 'Q'),
    (u64::MAX, '?'),
];

fn legend(colours: &[u8]) {
    say!("---------------------------------------------\n");
    say!(". - * #          .01 .125 .25 .5 milliseconds\n");
    say!("1,2,3,...,9      from 1 to 9     milliseconds\n");
    say!("A,B,C,D,E        10,20,30,40,50  milliseconds\n");
    say!("F,G,H,I,J        .1,.2,.3,.4,.5       seconds\n");
    say!("K,L,M,N,O,P,Q,?  1,2,4,8,16,30,60,>60 seconds\n");
    say!("From 0 to 100%: ");
    for colour in colours {
        say!("\x1b[48;5;{colour}m ");
    }
    say!("\x1b[0m\n");
    say!("---------------------------------------------\n");
}

/// `--latency-dist`: a line of coloured letters, one for each span of time that a PING may take.
pub fn latency_dist(session: Session) -> Result<(), Stop> {
    let options = session.options.clone();
    let interval_ms = match options.interval_us {
        0 => OUTPUT_MS,
        us => us / 1000,
    };
    let colours = if options.mono { GREYS } else { COLOURS };
    let clock = Clock::system();
    let now_us = || clock.mono_ns() / 1000;
    let mut server = Lasting::new(session)?;
    let (mut counts, mut lines) = (vec![0u64; BANDS.len()], 0u64);
    let mut since_us = now_us();
    loop {
        let start_us = now_us();
        server.command(&["PING"])?;
        let took_us = now_us() - start_us;
        counts[BANDS.partition_point(|(upto, _)| *upto < took_us)] += 1;
        if ((now_us() - since_us) / 1000) as i64 > interval_ms {
            if lines.is_multiple_of(20) {
                legend(colours);
            }
            lines += 1;
            let total: u64 = counts.iter().sum();
            say!("\x1b[38;5;0m");
            for (count, (_, letter)) in counts.iter().zip(BANDS) {
                let share = *count as f64 / total as f64;
                let at = (share * (colours.len() - 1) as f64).ceil() as usize;
                say!("\x1b[48;5;{}m{letter}", colours[at.min(colours.len() - 1)]);
            }
            say!("\x1b[0m\n");
            out::flush();
            counts.fill(0);
            since_us = now_us();
        }
        sleep(SAMPLE_EVERY);
    }
}
