//! Places: sorted sets whose scores are geohashes (`base/geohash.rs` tells how). GEOSEARCH and its kin have a file of
//! their own, `geosearch.rs`.
//!
//! A place is rounded to its cell of the finest size, so that what comes back is up to .6 m off what went in.

use crate::base::geohash::{Place, c_i64};
use crate::base::number::parse_f64;
use crate::cmd::fault::{CmdResult, DONE, Fault, NOT_FLOAT, SYNTAX};
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::zset::zadd;
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::object::zset::Zset;
use crate::resp::reply::Reply;

pub static ROWS: &[Row<DataFn>] = &[GEOADD, GEOPOS, GEODIST, GEOHASH];

const BAD_UNIT: Fault = Fault::new("ERR unsupported unit provided. please use M, KM, FT, MI");

const READ: &[KeySpec] = &[KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS))];
const MEMBERS: &[Arg] = &[
    Arg::key("key", 0),
    Arg::string("member").optional().multiple(),
];
/// The unit of a distance, as the rows show it.
pub const UNIT: Arg = Arg::one_of(
    "unit",
    &[
        Arg::word("m", "M"),
        Arg::word("km", "KM"),
        Arg::word("ft", "FT"),
        Arg::word("mi", "MI"),
    ],
);

/// Reads a place that can be stored.
pub fn parse_place(lon: &[u8], lat: &[u8]) -> Result<Place, Fault> {
    let place = Place {
        lon: parse_f64(lon).ok_or(NOT_FLOAT)?,
        lat: parse_f64(lat).ok_or(NOT_FLOAT)?,
    };
    if place.is_valid() {
        return Ok(place);
    }
    Err(Fault::text(format!(
        "ERR invalid longitude,latitude pair {:.6},{:.6}",
        place.lon, place.lat
    )))
}

/// Metres in a unit.
pub fn parse_unit(word: &[u8]) -> Result<f64, Fault> {
    const UNITS: [(&str, f64); 4] = [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)];
    let unit = UNITS.iter().find(|(name, _)| is_word(word, name));
    unit.map(|(_, metres)| *metres).ok_or(BAD_UNIT)
}

/// Replies longitude and latitude, with as many digits as they need up to 17 behind the point.
pub fn reply_place(reply: &mut Reply, place: Place) {
    reply.array(2);
    for degrees in [place.lon, place.lat] {
        let text = format!("{degrees:.17}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        reply.human_double(if text == "-0" { "0" } else { text }.as_bytes());
    }
}

/// Replies a distance, a text with four digits behind the point in either protocol.
pub fn reply_distance(reply: &mut Reply, distance: f64) {
    let scaled = c_i64((distance * 10_000.0).round_ties_even());
    let sign = if scaled < 0 { "-" } else { "" };
    let digits = scaled.unsigned_abs();
    reply.bulk_fmt(format_args!(
        "{sign}{}.{:04}",
        digits / 10_000,
        digits % 10_000
    ));
}

const GEOADD: Row<DataFn> = Spec::new("geoadd", -5, Group::Geo)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::GEO)
    .since("3.2.0")
    .cost("O(log(N)) for each place, with N the number of places in the sorted set")
    .about("Adds places to a sorted set, or moves them.")
    .history(&[("6.2.0", "The options `CH`, `NX` and `XX`.")])
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::UPDATE))])
    .args(&[
        Arg::key("key", 0),
        Arg::one_of("condition", &[Arg::word("nx", "NX"), Arg::word("xx", "XX")])
            .since("6.2.0")
            .optional(),
        Arg::word("change", "CH").since("6.2.0").optional(),
        Arg::block(
            "data",
            &[
                Arg::double("longitude"),
                Arg::double("latitude"),
                Arg::string("member"),
            ],
        )
        .multiple(),
    ])
    .run(geoadd);

/// GEOADD key [NX | XX] [CH] longitude latitude member ...: it is the ZADD of the places' scores, and is logged as that.
fn geoadd(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    let is_option = |word: &&&[u8]| ["NX", "XX", "CH"].iter().any(|o| is_word(word, o));
    let first = 2 + argv[2..].iter().take_while(is_option).count();
    let (options, data) = (&argv[2..first], &argv[first..]);
    let given = |word| options.iter().any(|option| is_word(option, word));
    let (triples, rest) = data.as_chunks::<3>();
    if !rest.is_empty() || given("NX") && given("XX") {
        return Err(SYNTAX);
    }
    let mut scores = Vec::with_capacity(triples.len());
    for [lon, lat, _] in triples {
        scores.push(parse_place(lon, lat)?.score().to_string());
    }
    let mut zadd_argv: Vec<&[u8]> = vec![b"zadd", argv[1]];
    zadd_argv.extend(options);
    for ([_, _, member], score) in triples.iter().zip(&scores) {
        zadd_argv.extend([score.as_bytes(), member]);
    }
    let before = cx.keys.unit.dirty;
    let outcome = zadd(cx, Args::new(&zadd_argv, args.big()));
    if cx.keys.unit.dirty > before {
        cx.log_instead(&zadd_argv);
    }
    outcome
}

const GEOPOS: Row<DataFn> = Spec::new("geopos", -2, Group::Geo)
    .flags(Flags::READONLY)
    .acl(Acl::GEO)
    .since("3.2.0")
    .cost("O(1) for each member")
    .about("Replies the longitudes and latitudes of members of a sorted set.")
    .keys(READ)
    .args(MEMBERS)
    .run(geopos);

/// GEOPOS key [member ...]: replies a pair for each, or a null.
fn geopos(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let zset = cx.keys.read_as::<Zset>(args.one()?)?;
    cx.reply.array(args.left());
    for member in args.rest() {
        match zset.and_then(|z| z.score(member)) {
            Some(score) => reply_place(cx.reply, Place::from_score(score)),
            None => cx.reply.null_array(),
        }
    }
    DONE
}

const GEODIST: Row<DataFn> = Spec::new("geodist", -4, Group::Geo)
    .flags(Flags::READONLY)
    .acl(Acl::GEO)
    .since("3.2.0")
    .cost("O(1)")
    .about("Replies the distance between two members of a sorted set.")
    .keys(READ)
    .args(&[
        Arg::key("key", 0),
        Arg::string("member1"),
        Arg::string("member2"),
        UNIT.optional(),
    ])
    .run(geodist);

/// GEODIST key member1 member2 [unit]: replies the distance, in metres if no unit is given; a null if one is missing.
fn geodist(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, from) = args.two()?;
    let to = args.next()?;
    let unit_m = match args.rest() {
        [] => 1.0,
        [unit] => parse_unit(unit)?,
        _ => return Err(SYNTAX),
    };
    let zset = cx.keys.read_as::<Zset>(key)?;
    let place = |member| Some(Place::from_score(zset?.score(member)?));
    match (place(from), place(to)) {
        (Some(from), Some(to)) => reply_distance(cx.reply, from.distance(to) / unit_m),
        _ => cx.reply.null(),
    }
    DONE
}

const GEOHASH: Row<DataFn> = Spec::new("geohash", -2, Group::Geo)
    .flags(Flags::READONLY)
    .acl(Acl::GEO)
    .since("3.2.0")
    .cost("O(1) for each member")
    .about("Replies the textual geohashes of members of a sorted set.")
    .keys(READ)
    .args(MEMBERS)
    .run(geohash);

/// GEOHASH key [member ...]: replies 11 letters for each, or a null.
fn geohash(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let zset = cx.keys.read_as::<Zset>(args.one()?)?;
    cx.reply.array(args.left());
    for member in args.rest() {
        match zset.and_then(|z| z.score(member)) {
            Some(score) => cx.reply.bulk(&Place::from_score(score).text()),
            None => cx.reply.null(),
        }
    }
    DONE
}
