//! The subcommands of CLIENT for client-side caching. How it works is told in `exec/tracking.rs`.

use crate::base::number;
use crate::cmd::args::is_word;
use crate::cmd::fault::{NOT_INTEGER, SYNTAX, quoted};
use crate::cmd::session::Marks;
use crate::cmd::spec::{Acl, Arg, Flags, Group, Spec};
use crate::cmd::{Args, CmdResult, DONE, Fault, Row};
use crate::exec::tracking::Redirect;
use crate::exec::{Call, ServerFn};

const ONE_REDIRECT: Fault = Fault::new("ERR A client can only redirect to a single other client");
const NOBODY_THERE: Fault = Fault::new("ERR The client ID you want redirect to does not exist");
const PREFIX_ALONE: Fault = Fault::new("ERR PREFIX option requires BCAST mode to be enabled");
const BCAST_SWITCH: Fault = Fault::new(
    "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.",
);
const BCAST_OPT: Fault = Fault::new("ERR OPTIN and OPTOUT are not compatible with BCAST");
const BOTH_OPTS: Fault = Fault::new("ERR You can't specify both OPTIN mode and OPTOUT mode");
const OPT_SWITCH: Fault = Fault::new(
    "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.",
);
const NOT_TRACKING: Fault = Fault::new(
    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
);
const YES_IS_OPTIN: Fault =
    Fault::new("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.");
const NO_IS_OPTOUT: Fault =
    Fault::new("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.");

/// A subcommand's row.
const fn row(name: &'static str, arity: i32) -> Spec {
    let flags = Flags::NOSCRIPT
        .or(Flags::LOADING)
        .or(Flags::STALE)
        .or(Flags::SENTINEL_HAS);
    Spec::new(name, arity, Group::Connection)
        .flags(flags)
        .acl(Acl::CONNECTION)
        .since("6.0.0")
        .cost("O(1)")
}

const TRACKING: Row<ServerFn> = row("client|tracking", -3)
    .cost("O(1), and more with many prefixes")
    .about("Has the connection told of changes of the keys that it reads, or no longer.")
    .args(&[
        Arg::one_of("status", &[Arg::word("on", "ON"), Arg::word("off", "OFF")]),
        Arg::int("client-id").token("REDIRECT").optional(),
        Arg::string("prefix")
            .token("PREFIX")
            .optional()
            .multiple()
            .multiple_token(),
        Arg::word("BCAST", "BCAST").optional(),
        Arg::word("OPTIN", "OPTIN").optional(),
        Arg::word("OPTOUT", "OPTOUT").optional(),
        Arg::word("NOLOOP", "NOLOOP").optional(),
    ])
    .run(tracking);

/// What TRACKING ON is given.
#[derive(Default)]
struct Options<'a> {
    mode: Marks,
    redirect: Option<Redirect>,
    prefixes: Vec<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(call: &Call<'_>, words: &[&'a [u8]]) -> Result<Options<'a>, Fault> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            match word {
                w if is_word(w, "bcast") => options.mode.set(Marks::TRACKING_BCAST, true),
                w if is_word(w, "optin") => options.mode.set(Marks::TRACKING_OPTIN, true),
                w if is_word(w, "optout") => options.mode.set(Marks::TRACKING_OPTOUT, true),
                w if is_word(w, "noloop") => options.mode.set(Marks::TRACKING_NOLOOP, true),
                w if is_word(w, "prefix") => options.prefixes.push(words.next().ok_or(SYNTAX)?),
                w if is_word(w, "redirect") => {
                    let id = words.next().ok_or(SYNTAX)?;
                    if options.redirect.is_some() {
                        return Err(ONE_REDIRECT);
                    }
                    let id = number::parse_i64(id).ok_or(NOT_INTEGER)?;
                    let token = call.server.client_by_id(id).ok_or(NOBODY_THERE)?;
                    options.redirect = Some(Redirect {
                        id: id.unsigned_abs(),
                        token,
                    });
                }
                _ => return Err(SYNTAX),
            }
        }
        Ok(options)
    }

    /// Whether they go together, and with how the client tracks already.
    fn check(&self, now: Marks) -> Result<(), Fault> {
        let (bcast, optin, optout) = (
            Marks::TRACKING_BCAST,
            Marks::TRACKING_OPTIN,
            Marks::TRACKING_OPTOUT,
        );
        let mode = self.mode;
        if !mode.has(bcast) && !self.prefixes.is_empty() {
            return Err(PREFIX_ALONE);
        }
        if now.has(Marks::TRACKING) && now.has(bcast) != mode.has(bcast) {
            return Err(BCAST_SWITCH);
        }
        if mode.has(bcast) && mode.has(optin | optout) {
            return Err(BCAST_OPT);
        }
        if mode.has(optin) && mode.has(optout) {
            return Err(BOTH_OPTS);
        }
        if (mode.has(optin) && now.has(optout)) || (mode.has(optout) && now.has(optin)) {
            return Err(OPT_SWITCH);
        }
        Ok(())
    }

    /// No key may be told of twice. (Redis misses some of the prefixes given at once that overlap, and replies twice.)
    fn check_prefixes<'p>(
        &self,
        mut existing: impl Iterator<Item = &'p [u8]>,
    ) -> Result<(), Fault> {
        let overlap = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
        let refuse = |name: &[u8], which: &[u8], other: &[u8]| {
            Err(Fault::text(
                [
                    b"ERR Prefix '",
                    quoted(name),
                    b"' overlaps with ",
                    which,
                    b" prefix '",
                    quoted(other),
                    b"'. Prefixes for a single client must not overlap.",
                ]
                .concat(),
            ))
        };
        let existing: Vec<&[u8]> = existing.by_ref().collect();
        for (at, prefix) in self.prefixes.iter().enumerate() {
            if let Some(other) = existing.iter().find(|other| overlap(prefix, other)) {
                return refuse(prefix, b"an existing", other);
            }
            let later = &self.prefixes[at + 1..];
            if let Some(other) = later.iter().find(|other| overlap(prefix, other)) {
                return refuse(prefix, b"another provided", other);
            }
        }
        Ok(())
    }
}

/// CLIENT TRACKING ON|OFF [REDIRECT id] [PREFIX prefix ...] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]
fn tracking(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let options = Options::parse(call, &args.argv()[3..])?;
    let (id, marks) = (call.session().id, call.session().marks);
    match args.argv()[2] {
        word if is_word(word, "on") => {
            options.check(marks)?;
            if options.mode.has(Marks::TRACKING_BCAST) {
                options.check_prefixes(call.server.tracking.prefixes_of(id))?;
            }
            let Options {
                mode,
                redirect,
                prefixes,
            } = options;
            call.server.track(call.token, mode, redirect, &prefixes);
        }
        word if is_word(word, "off") => call.server.stop_tracking(call.token),
        _ => return Err(SYNTAX),
    }
    call.reply().ok();
    DONE
}

const CACHING: Row<ServerFn> = row("client|caching", 3)
    .about("Has the next command's keys tracked, or not.")
    .args(&[Arg::one_of(
        "mode",
        &[Arg::word("yes", "YES"), Arg::word("no", "NO")],
    )])
    .run(caching);

/// CLIENT CACHING YES|NO
fn caching(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let marks = &mut call.session().marks;
    if !marks.has(Marks::TRACKING) {
        return Err(NOT_TRACKING);
    }
    let (mode, refusal) = match args.argv()[2] {
        word if is_word(word, "yes") => (Marks::TRACKING_OPTIN, YES_IS_OPTIN),
        word if is_word(word, "no") => (Marks::TRACKING_OPTOUT, NO_IS_OPTOUT),
        _ => return Err(SYNTAX),
    };
    if !marks.has(mode) {
        return Err(refusal);
    }
    marks.set(Marks::TRACKING_CACHING, true);
    call.reply().ok();
    DONE
}

const GETREDIR: Row<ServerFn> = row("client|getredir", 2)
    .about("Tells which connection hears of changes in this one's place.")
    .run(getredir);

/// CLIENT GETREDIR: 0 for none, -1 if the connection does not track.
fn getredir(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    let id = call.session().id;
    let redirect = call.server.tracking.redirect_of(id);
    call.reply().int(redirect.map_or(-1, |id| id as i64));
    DONE
}

const TRACKINGINFO: Row<ServerFn> = row("client|trackinginfo", 2)
    .since("6.2.0")
    .about("Tells how the connection tracks.")
    .run(trackinginfo);

fn trackinginfo(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    let (id, marks) = (call.session().id, call.session().marks);
    let on = marks.has(Marks::TRACKING);
    let caching = |mode| marks.has(mode) && marks.has(Marks::TRACKING_CACHING);
    let flags = [
        (on, "on"),
        (!on, "off"),
        (marks.has(Marks::TRACKING_BCAST), "bcast"),
        (marks.has(Marks::TRACKING_OPTIN), "optin"),
        (caching(Marks::TRACKING_OPTIN), "caching-yes"),
        (marks.has(Marks::TRACKING_OPTOUT), "optout"),
        (caching(Marks::TRACKING_OPTOUT), "caching-no"),
        (marks.has(Marks::TRACKING_NOLOOP), "noloop"),
        (marks.has(Marks::TRACKING_BROKEN), "broken_redirect"),
    ];
    let tracking = &call.server.tracking;
    let redirect = tracking.redirect_of(id).map_or(-1, |id| id as i64);
    let prefixes: Vec<Vec<u8>> = tracking.prefixes_of(id).map(Vec::from).collect();
    let reply = call.reply();
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(flags.iter().filter(|(on, _)| *on).count());
    for (_, name) in flags.iter().filter(|(on, _)| *on) {
        reply.bulk(name.as_bytes());
    }
    reply.bulk(b"redirect");
    reply.int(redirect);
    reply.bulk(b"prefixes");
    reply.array(prefixes.len());
    for prefix in prefixes {
        reply.bulk(&prefix);
    }
    DONE
}

pub static ROWS: &[Row<ServerFn>] = &[CACHING, GETREDIR, TRACKING, TRACKINGINFO];
