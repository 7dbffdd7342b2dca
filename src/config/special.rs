//! The directives whose values are of no simple type: how each is stored, shown and rewritten.

use super::Config;
use super::types::{BUFFER_CLASSES, ClientBufferLimit, NotifyFlags, ReplicaOf, Special, Text};
use super::units::{format_memory, parse_lenient, parse_memory};
use crate::base::number::parse_f64;
use crate::base::quoted::quote_into;

const WRONG_NUMBER: &str = "wrong number of arguments";
const BIND_MAX: usize = 16;
const MB: usize = 1024 * 1024;

/// The built-in output buffer limits.
pub const BUFFER_LIMITS: [ClientBufferLimit; 3] = [
    ClientBufferLimit {
        hard: 0,
        soft: 0,
        soft_seconds: 0,
    },
    ClientBufferLimit {
        hard: 256 * MB,
        soft: 64 * MB,
        soft_seconds: 60,
    },
    ClientBufferLimit {
        hard: 32 * MB,
        soft: 8 * MB,
        soft_seconds: 60,
    },
];

/// The built-in OOM scores of a master, a replica and a background job.
pub const OOM_SCORES: [i32; 3] = [0, 200, 800];

/// Whether `args` is the single empty argument that stands for none at all.
fn is_none(args: &[Vec<u8>]) -> bool {
    matches!(args, [only] if only.is_empty())
}

/// Joins what `Display` makes of `items` with blanks.
fn join<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(" ")
}

/// Save points. In a file, lines add up, and the first replaces the built-in points; CONFIG SET replaces all.
pub const SAVE: Special = Special {
    set: |config, args, setting, _| {
        const INVALID: &str = "Invalid save parameters";
        let mut points = Vec::new();
        let none = is_none(args);
        let args = if none { &[] } else { args };
        if args.len() % 2 == 1 {
            return Err(INVALID.into());
        }
        for pair in args.chunks(2) {
            let number = |arg: &Vec<u8>, least: i64| {
                let value = parse_lenient(arg, 10).filter(|value| *value >= least);
                value.map(i64::unsigned_abs).ok_or(INVALID)
            };
            points.push((number(&pair[0], 1)?, number(&pair[1], 0)?));
        }
        if !setting.adds_save_points() || none {
            config.save.clear();
        }
        config.save.extend(points);
        Ok(true)
    },
    get: |config| join(config.save.iter().map(|(s, n)| format!("{s} {n}"))).into_bytes(),
    rewrite: |config, name, to| {
        if config.save.is_empty() {
            to.line(name, format!("{name} \"\"").into(), true);
        }
        for (seconds, changes) in &config.save {
            to.line(name, format!("{name} {seconds} {changes}").into(), true);
        }
    },
};

pub const BIND: Special = Special {
    set: |config, args, _, _| {
        if args.len() > BIND_MAX {
            return Err("Too many bind addresses specified.".into());
        }
        let args = if is_none(args) { &[] } else { args };
        config.bind = args.iter().map(|arg| arg.as_slice().into()).collect();
        Ok(true)
    },
    get: |config| config.bind.join(&b' '),
    rewrite: |config, name, to| {
        if config.bind == Config::default().bind {
            return to.processed(name);
        }
        let mut line = format!("{name} ").into_bytes();
        match config.bind.is_empty() {
            true => line.extend_from_slice(b"\"\""),
            false => line.extend(config.bind.join(&b' ')),
        }
        to.line(name, line, true);
    },
};

/// The directory takes effect at once: an `include` after it is seen from there.
pub const DIR: Special = Special {
    set: |config, args, _, enter| {
        let [path] = args else {
            return Err(WRONG_NUMBER.into());
        };
        config.dir = enter(&config.dir, path)?;
        Ok(true)
    },
    get: |config| config.dir.to_vec(),
    rewrite: |config, name, to| {
        if config.dir.is_empty() {
            return to.processed(name);
        }
        let mut line = format!("{name} ").into_bytes();
        quote_into(&config.dir, &mut line);
        to.line(name, line, true);
    },
};

pub const REPLICAOF: Special = Special {
    set: |config, args, _, _| {
        let [host, port] = args else {
            return Err(WRONG_NUMBER.into());
        };
        config.replicaof = None;
        if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
            return Ok(true);
        }
        let port = parse_lenient(port, 10).and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or("Invalid master port")?;
        let host = Text::from(host.as_slice());
        config.replicaof = Some(ReplicaOf { host, port });
        Ok(true)
    },
    get: |config| match &config.replicaof {
        Some(master) => [&master.host[..], format!(" {}", master.port).as_bytes()].concat(),
        None => Vec::new(),
    },
    rewrite: |config, name, to| match &config.replicaof {
        Some(_) if !config.cluster_enabled => {
            let mut line = format!("{name} ").into_bytes();
            line.extend((REPLICAOF.get)(config));
            to.line(name, line, true);
        }
        _ => to.processed(name),
    },
};

/// The class of clients that a configuration names; the master's link has no limit to set.
fn buffer_class(name: &[u8]) -> Option<usize> {
    if name.eq_ignore_ascii_case(b"replica") {
        return Some(1);
    }
    let same = |class: &&str| class.as_bytes().eq_ignore_ascii_case(name);
    BUFFER_CLASSES.iter().position(same)
}

/// Groups of class, hard limit, soft limit, seconds: all of them are stored or none.
pub const CLIENT_OUTPUT_BUFFER_LIMIT: Special = Special {
    set: |config, args, _, _| {
        if args.len() % 4 != 0 {
            return Err("Wrong number of arguments in buffer limit configuration.".into());
        }
        let mut limits = config.client_output_buffer_limit;
        for group in args.chunks(4) {
            let class = buffer_class(&group[0])
                .ok_or("Invalid client class specified in buffer limit configuration.")?;
            let bytes = |arg: &Vec<u8>| usize::try_from(parse_memory(arg)?).ok();
            let seconds = parse_lenient(&group[3], 10).and_then(|s| u64::try_from(s).ok());
            let (Some(hard), Some(soft), Some(soft_seconds)) =
                (bytes(&group[1]), bytes(&group[2]), seconds)
            else {
                const INVALID: &str =
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
                return Err(INVALID.into());
            };
            limits[class] = ClientBufferLimit {
                hard,
                soft,
                soft_seconds,
            };
        }
        config.client_output_buffer_limit = limits;
        Ok(true)
    },
    get: |config| {
        let classes = BUFFER_CLASSES
            .iter()
            .zip(&config.client_output_buffer_limit);
        let line = |(class, limit): (&&str, &ClientBufferLimit)| {
            format!(
                "{class} {} {} {}",
                limit.hard, limit.soft, limit.soft_seconds
            )
        };
        join(classes.map(line)).into_bytes()
    },
    rewrite: |config, name, to| {
        for (class, limit) in config.client_output_buffer_limit.iter().enumerate() {
            let hard = format_memory(limit.hard as u64);
            let soft = format_memory(limit.soft as u64);
            let class_name = ["normal", "replica", "pubsub"][class];
            let line = format!("{name} {class_name} {hard} {soft} {}", limit.soft_seconds);
            to.line(name, line.into(), *limit != BUFFER_LIMITS[class]);
        }
    },
};

pub const OOM_SCORE_ADJ_VALUES: Special = Special {
    set: |config, args, setting, _| {
        if args.len() != OOM_SCORES.len() {
            return Err(WRONG_NUMBER.into());
        }
        let mut scores = OOM_SCORES;
        for (score, arg) in scores.iter_mut().zip(args) {
            let value = parse_lenient(arg, 10).filter(|value| (-2000..=2000).contains(value));
            let value = value
                .ok_or("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")?;
            *score = value as i32;
        }
        if !scores.is_sorted() {
            setting.notes.push(
                "The oom-score-adj-values configuration may not work for non-privileged processes! \
                 Please consult the documentation."
                    .into(),
            );
        }
        let changed = config.oom_score_adj_values != scores;
        config.oom_score_adj_values = scores;
        Ok(changed)
    },
    get: |config| join(config.oom_score_adj_values).into_bytes(),
    rewrite: |config, name, to| {
        let line = format!("{name} {}", join(config.oom_score_adj_values));
        let force = config.oom_score_adj_values != OOM_SCORES;
        to.line(name, line.into(), force);
    },
};

pub const NOTIFY_KEYSPACE_EVENTS: Special = Special {
    set: |config, args, _, _| {
        let [letters] = args else {
            return Err(WRONG_NUMBER.into());
        };
        let flags = NotifyFlags::parse(letters)
            .ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")?;
        config.notify_keyspace_events = flags;
        Ok(true)
    },
    get: |config| config.notify_keyspace_events.letters().into_bytes(),
    rewrite: |config, name, to| {
        let letters = config.notify_keyspace_events.letters();
        let force = !config.notify_keyspace_events.is_empty();
        to.line(name, format!("{name} \"{letters}\"").into(), force);
    },
};

/// `99.9` for 99.9, `50` for 50: six digits after the point, without trailing zeros.
fn format_percentile(value: &f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn parse_percentile(arg: &[u8]) -> Result<f64, String> {
    let value = parse_f64(arg).ok_or("Invalid latency-tracking-info-percentiles parameters")?;
    match (0.0..=100.0).contains(&value) {
        true => Ok(value),
        false => Err(
            "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".into(),
        ),
    }
}

pub const PERCENTILES: Special = Special {
    set: |config, args, _, _| {
        let args = if is_none(args) { &[] } else { args };
        let percentiles: Result<Vec<f64>, String> =
            args.iter().map(|arg| parse_percentile(arg)).collect();
        config.latency_tracking_info_percentiles = percentiles?;
        Ok(true)
    },
    get: |config| {
        join(
            config
                .latency_tracking_info_percentiles
                .iter()
                .map(format_percentile),
        )
        .into()
    },
    rewrite: |config, name, to| {
        let values = join(
            config
                .latency_tracking_info_percentiles
                .iter()
                .map(format_percentile),
        );
        let values = if values.is_empty() { "\"\"" } else { &values };
        to.line(name, format!("{name} {values}").into(), true);
    },
};
