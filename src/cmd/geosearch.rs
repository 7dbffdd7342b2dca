//! Searching for places in an area: GEOSEARCH, GEOSEARCHSTORE, and GEORADIUS with its kin, which were there before.
//!
//! All are one search with other words. An area is covered by at most nine cells (`base/geohash.rs`), each a range of
//! scores; places in them are measured, sorted if that is asked for, and replied or stored.

use std::cmp::Ordering;

use crate::base::geohash::{Area, Place, Shape, c_i64};
use crate::base::number::{parse_f64, parse_i64};
use crate::base::partial_sort::partial_sort;
use crate::cmd::fault::{CmdResult, DONE, Fault, NOT_INTEGER, SYNTAX, quoted};
use crate::cmd::geo::{UNIT, parse_place, parse_unit, reply_distance, reply_place};
use crate::cmd::set::reply_elem;
use crate::cmd::spec::{Acl, Arg, Begin, Find, Flags, Group, KeyFlags, KeyRef, KeySpec, Spec};
use crate::cmd::zset::rules;
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::config::NotifyFlags;
use crate::ds::listpack::Elem;
use crate::object::zset::{ScoreEnd, ScoreRange, Zset};
use crate::resp::reply::Reply;

pub static ROWS: &[Row<DataFn>] = &[
    GEORADIUS,
    GEORADIUS_RO,
    GEORADIUSBYMEMBER,
    GEORADIUSBYMEMBER_RO,
    GEOSEARCH,
    GEOSEARCHSTORE,
];

const NO_MEMBER: Fault = Fault::new("ERR could not decode requested zset member");
const BAD_RADIUS: Fault = Fault::new("ERR need numeric radius");
const NEGATIVE_RADIUS: Fault = Fault::new("ERR radius cannot be negative");
const BAD_WIDTH: Fault = Fault::new("ERR need numeric width");
const BAD_HEIGHT: Fault = Fault::new("ERR need numeric height");
const NEGATIVE_BOX: Fault = Fault::new("ERR height or width cannot be negative");
const BAD_COUNT: Fault = Fault::new("ERR COUNT must be > 0");
const ANY_WITHOUT_COUNT: Fault = Fault::new("ERR the ANY argument requires COUNT argument");

// --- Query -----------------------------------------------------------------------------------------------------

/// Which of the commands it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Radius,
    RadiusByMember,
    Search,
    SearchStore,
}

impl Kind {
    fn is_search(self) -> bool {
        matches!(self, Kind::Search | Kind::SearchStore)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Asc,
    Desc,
}

/// What the arguments ask for.
#[derive(Default)]
struct Query<'a> {
    with_dist: bool,
    with_hash: bool,
    with_coord: bool,
    any: bool,
    /// 0: all.
    count: usize,
    sort: Option<Sort>,
    store: Option<&'a [u8]>,
    store_dist: bool,
    centre: Option<Place>,
    /// And metres in its unit.
    shape: Option<(Shape, f64)>,
    from_member: bool,
    from_place: bool,
}

/// The place of a member; some place if there is no sorted set, as the rest is read all the same.
fn member_place(zset: Option<&Zset>, member: &[u8]) -> Result<Place, Fault> {
    let nowhere = Place { lon: 0.0, lat: 0.0 };
    zset.map_or(Ok(nowhere), |zset| {
        zset.score(member).map(Place::from_score).ok_or(NO_MEMBER)
    })
}

fn parse_circle(radius: &[u8], unit: &[u8]) -> Result<(Shape, f64), Fault> {
    let radius = parse_f64(radius).ok_or(BAD_RADIUS)?;
    if radius < 0.0 {
        return Err(NEGATIVE_RADIUS);
    }
    Ok((Shape::Circle { radius }, parse_unit(unit)?))
}

fn parse_rectangle(width: &[u8], height: &[u8], unit: &[u8]) -> Result<(Shape, f64), Fault> {
    let width = parse_f64(width).ok_or(BAD_WIDTH)?;
    let height = parse_f64(height).ok_or(BAD_HEIGHT)?;
    if width < 0.0 || height < 0.0 {
        return Err(NEGATIVE_BOX);
    }
    Ok((Shape::Rectangle { width, height }, parse_unit(unit)?))
}

impl<'a> Query<'a> {
    /// Reads the arguments, of which the row promises the first few. `may_store`: STORE and STOREDIST key are allowed.
    fn parse(
        argv: &'a [&'a [u8]],
        kind: Kind,
        may_store: bool,
        zset: Option<&Zset>,
    ) -> Result<Query<'a>, Fault> {
        let mut q = Query::default();
        let from = match kind {
            Kind::Radius => {
                q.centre = Some(parse_place(argv[2], argv[3])?);
                q.shape = Some(parse_circle(argv[4], argv[5])?);
                6
            }
            Kind::RadiusByMember => {
                // Without a sorted set not even these are looked at.
                if zset.is_some() {
                    q.centre = Some(member_place(zset, argv[2])?);
                    q.shape = Some(parse_circle(argv[3], argv[4])?);
                }
                5
            }
            Kind::Search => 2,
            Kind::SearchStore => {
                q.store = Some(argv[1]);
                3
            }
        };
        let mut rest = &argv[from..];
        while let [word, tail @ ..] = rest {
            let taken = match q.result_option(word, tail)? {
                None if kind.is_search() => q.search_option(kind, word, tail, zset)?,
                None if may_store => q.store_option(word, tail),
                taken => taken,
            };
            rest = &tail[taken.ok_or(SYNTAX)?..];
        }
        q.check(kind, argv[0])?;
        Ok(q)
    }

    /// An option of all commands; says how many arguments it takes, if it is one.
    fn result_option(&mut self, word: &[u8], tail: &[&[u8]]) -> Result<Option<usize>, Fault> {
        match word {
            _ if is_word(word, "WITHDIST") => self.with_dist = true,
            _ if is_word(word, "WITHHASH") => self.with_hash = true,
            _ if is_word(word, "WITHCOORD") => self.with_coord = true,
            _ if is_word(word, "ANY") => self.any = true,
            _ if is_word(word, "ASC") => self.sort = Some(Sort::Asc),
            _ if is_word(word, "DESC") => self.sort = Some(Sort::Desc),
            _ if is_word(word, "COUNT") && !tail.is_empty() => {
                let count = parse_i64(tail[0]).ok_or(NOT_INTEGER)?;
                self.count = usize::try_from(count)
                    .ok()
                    .filter(|n| *n > 0)
                    .ok_or(BAD_COUNT)?;
                return Ok(Some(1));
            }
            _ => return Ok(None),
        }
        Ok(Some(0))
    }

    /// An option of GEORADIUS and GEORADIUSBYMEMBER; the last one counts.
    fn store_option(&mut self, word: &[u8], tail: &'a [&'a [u8]]) -> Option<usize> {
        let dist = is_word(word, "STOREDIST");
        if !dist && !is_word(word, "STORE") {
            return None;
        }
        self.store = Some(tail.first()?);
        self.store_dist = dist;
        Some(1)
    }

    /// An option of GEOSEARCH and GEOSEARCHSTORE.
    fn search_option(
        &mut self,
        kind: Kind,
        word: &[u8],
        tail: &[&[u8]],
        zset: Option<&Zset>,
    ) -> Result<Option<usize>, Fault> {
        let is_circle = matches!(self.shape, Some((Shape::Circle { .. }, _)));
        let is_rectangle = matches!(self.shape, Some((Shape::Rectangle { .. }, _)));
        Ok(match tail {
            _ if is_word(word, "STOREDIST") && kind == Kind::SearchStore => {
                self.store_dist = true;
                Some(0)
            }
            [member, ..] if is_word(word, "FROMMEMBER") && !self.from_place => {
                self.centre = Some(member_place(zset, member)?);
                self.from_member = true;
                Some(1)
            }
            [lon, lat, ..] if is_word(word, "FROMLONLAT") && !self.from_member => {
                self.centre = Some(parse_place(lon, lat)?);
                self.from_place = true;
                Some(2)
            }
            [radius, unit, ..] if is_word(word, "BYRADIUS") && !is_rectangle => {
                self.shape = Some(parse_circle(radius, unit)?);
                Some(2)
            }
            [width, height, unit, ..] if is_word(word, "BYBOX") && !is_circle => {
                self.shape = Some(parse_rectangle(width, height, unit)?);
                Some(3)
            }
            _ => None,
        })
    }

    /// What does not go together, and what is missing.
    fn check(&self, kind: Kind, name: &[u8]) -> Result<(), Fault> {
        if self.store.is_some() && (self.with_dist || self.with_hash || self.with_coord) {
            let who = match kind {
                Kind::SearchStore => "GEOSEARCHSTORE",
                _ => "STORE option in GEORADIUS",
            };
            return Err(Fault::text(format!(
                "ERR {who} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        let missing = |what: &str| {
            let text = format!("ERR exactly one of {what} can be specified for ");
            Err(Fault::text([text.as_bytes(), quoted(name)].concat()))
        };
        if kind.is_search() && self.centre.is_none() {
            return missing("FROMMEMBER or FROMLONLAT");
        }
        if kind.is_search() && self.shape.is_none() {
            return missing("BYRADIUS and BYBOX");
        }
        if self.any && self.count == 0 {
            return Err(ANY_WITHOUT_COUNT);
        }
        Ok(())
    }

    fn area(&self) -> Option<Area> {
        let (shape, unit_m) = self.shape?;
        Some(Area {
            centre: self.centre?,
            shape,
            unit_m,
        })
    }
}

// --- Search ----------------------------------------------------------------------------------------------------

/// A place that was found.
struct Hit<'a> {
    member: Elem<'a>,
    score: f64,
    /// From the centre, metres.
    distance: f64,
}

/// The nearer one first; one whose distance is no number before all others.
fn by_distance(a: &Hit<'_>, b: &Hit<'_>) -> Ordering {
    a.distance
        .partial_cmp(&b.distance)
        .unwrap_or(Ordering::Less)
}

/// The places in an area, cell by cell; not more than `limit`, unless that is 0.
fn find<'a>(zset: &'a Zset, area: &Area, limit: usize) -> Vec<Hit<'a>> {
    let mut hits = Vec::new();
    let full = |hits: &Vec<Hit<'_>>| limit > 0 && hits.len() >= limit;
    for (from, below) in area.score_ranges() {
        let end = |score, open| ScoreEnd { score, open };
        let ranks = zset.ranks_of_scores(&ScoreRange {
            min: end(from, false),
            max: end(below, true),
        });
        for (member, score) in zset.items(ranks, false) {
            if full(&hits) {
                return hits;
            }
            if let Some(distance) = area.distance_within(Place::from_score(score)) {
                hits.push(Hit {
                    member,
                    score,
                    distance,
                });
            }
        }
    }
    hits
}

/// Sorts as asked for, as far as `wanted`.
fn sort(hits: &mut [Hit<'_>], order: Sort, wanted: usize) {
    let compare = |a: &Hit<'_>, b: &Hit<'_>| match order {
        Sort::Asc => by_distance(a, b),
        Sort::Desc => by_distance(a, b).reverse(),
    };
    if wanted == hits.len() {
        // Equal ones stay in the order of the cells.
        hits.sort_by(|a, b| match order {
            Sort::Asc => a.distance.total_cmp(&b.distance),
            Sort::Desc => b.distance.total_cmp(&a.distance),
        });
    } else {
        partial_sort(hits, 0..wanted, &mut { compare });
    }
}

/// All six commands.
fn search(cx: &mut Ctx<'_>, args: Args<'_>, kind: Kind, may_store: bool) -> CmdResult {
    let argv = args.argv();
    let source = argv[if kind == Kind::SearchStore { 2 } else { 1 }];
    let rules = rules(&cx.keys);
    let zset = cx.keys.read_as::<Zset>(source)?;
    let q = Query::parse(argv, kind, may_store, zset)?;
    let (hits, unit_m) = match (zset, q.area()) {
        (Some(zset), Some(area)) => {
            let limit = if q.any { q.count } else { 0 };
            (find(zset, &area, limit), area.unit_m)
        }
        _ => (Vec::new(), 1.0),
    };
    let mut hits = hits;
    let wanted = match q.count {
        0 => hits.len(),
        count => count.min(hits.len()),
    };
    // The first so many make sense only if those are the nearest.
    let order = match q.sort {
        None if q.count > 0 && !q.any => Some(Sort::Asc),
        order => order,
    };
    if let Some(order) = order {
        sort(&mut hits, order, wanted);
    }
    hits.truncate(wanted);
    let Some(dest) = q.store else {
        reply_hits(cx.reply, &q, &hits, unit_m);
        return DONE;
    };
    let score = |hit: &Hit<'_>| match q.store_dist {
        true => hit.distance / unit_m,
        false => hit.score,
    };
    let mut found: Vec<(Vec<u8>, f64)> = hits
        .iter()
        .map(|hit| (hit.member.to_vec(), score(hit)))
        .collect();
    found.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
    if found.is_empty() {
        if cx.keys.remove(dest) {
            cx.changed(dest, 1);
            cx.event(NotifyFlags::GENERIC, "del", dest);
        }
    } else {
        cx.keys.store(dest, Zset::from_sorted(&rules, &found));
        cx.changed(dest, found.len() as u64);
        let event = match kind.is_search() {
            true => "geosearchstore",
            false => "georadiusstore",
        };
        cx.event(NotifyFlags::ZSET, event, dest);
    }
    cx.reply.int(found.len() as i64);
    DONE
}

fn reply_hits(reply: &mut Reply, q: &Query<'_>, hits: &[Hit<'_>], unit_m: f64) {
    let extras = [q.with_dist, q.with_hash, q.with_coord];
    let extras = extras.into_iter().filter(|with| *with).count();
    reply.array(hits.len());
    for hit in hits {
        if extras > 0 {
            reply.array(1 + extras);
        }
        reply_elem(reply, hit.member);
        if q.with_dist {
            reply_distance(reply, hit.distance / unit_m);
        }
        if q.with_hash {
            reply.int(c_i64(hit.score));
        }
        if q.with_coord {
            reply_place(reply, Place::from_score(hit.score));
        }
    }
}

// --- Commands --------------------------------------------------------------------------------------------------

const SEARCH_COST: &str =
    "O(N+log(M)) with N the number of places in the cells that cover the area and M that of all";

const READ: KeySpec = KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS));

/// The key behind a word, which is looked for from a position on.
const fn key_behind(word: &'static str, from: i32) -> KeySpec {
    let find = Find::Range {
        last: 0,
        step: 1,
        limit: 0,
    };
    KeySpec::new(Begin::Keyword(word, from), find).flags(KeyFlags::OW.or(KeyFlags::UPDATE))
}

const WITHCOORD: Arg = Arg::word("withcoord", "WITHCOORD").optional();
const WITHDIST: Arg = Arg::word("withdist", "WITHDIST").optional();
const WITHHASH: Arg = Arg::word("withhash", "WITHHASH").optional();
const ORDER: Arg = Arg::one_of(
    "order",
    &[Arg::word("asc", "ASC"), Arg::word("desc", "DESC")],
)
.optional();
const COUNT: Arg = Arg::block(
    "count-block",
    &[
        Arg::int("count").token("COUNT"),
        Arg::word("any", "ANY").optional(),
    ],
)
.optional();
/// Where ANY came later than the command.
const COUNT_62: Arg = Arg::block(
    "count-block",
    &[
        Arg::int("count").token("COUNT"),
        Arg::word("any", "ANY").since("6.2.0").optional(),
    ],
)
.optional();
const STORE: Arg = Arg::one_of(
    "store",
    &[
        Arg::key("storekey", 1).token("STORE").display("key"),
        Arg::key("storedistkey", 2)
            .token("STOREDIST")
            .display("key"),
    ],
)
.optional();
const FROM: Arg = Arg::one_of(
    "from",
    &[
        Arg::string("member").token("FROMMEMBER"),
        Arg::block(
            "fromlonlat",
            &[Arg::double("longitude"), Arg::double("latitude")],
        )
        .token("FROMLONLAT"),
    ],
);
const BY: Arg = Arg::one_of(
    "by",
    &[
        Arg::block("circle", &[Arg::double("radius").token("BYRADIUS"), UNIT]),
        Arg::block(
            "box",
            &[
                Arg::double("width").token("BYBOX"),
                Arg::double("height"),
                UNIT,
            ],
        ),
    ],
);

/// The keys of GEORADIUS and GEORADIUSBYMEMBER: the last STORE or STOREDIST counts.
fn radius_keys(args: &[&[u8]]) -> Option<Vec<KeyRef>> {
    let key = |pos| KeyRef {
        pos,
        flags: KeyFlags::NONE,
    };
    let (mut stored, mut at) = (None, 5);
    while at + 1 < args.len() {
        if is_word(args[at], "STORE") || is_word(args[at], "STOREDIST") {
            stored = Some(at + 1);
            at += 1;
        }
        at += 1;
    }
    Some([Some(1), stored].into_iter().flatten().map(key).collect())
}

const GEORADIUS: Row<DataFn> = Spec::new("georadius", -6, Group::Geo)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::GEO)
    .since("3.2.0")
    .cost(SEARCH_COST)
    .about("Finds the members of a sorted set within a distance of a place; may store them.")
    .history(&[
        ("6.2.0", "The option `ANY` for `COUNT`."),
        ("7.0.0", "Units in upper case."),
    ])
    .deprecated(
        "6.2.0",
        "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument",
    )
    .keys(&[READ, key_behind("STORE", 6), key_behind("STOREDIST", 6)])
    .args(&[
        Arg::key("key", 0),
        Arg::double("longitude"),
        Arg::double("latitude"),
        Arg::double("radius"),
        UNIT,
        WITHCOORD,
        WITHDIST,
        WITHHASH,
        COUNT_62,
        ORDER,
        STORE,
    ])
    .find_keys(radius_keys)
    .run(georadius);

/// GEORADIUS key longitude latitude radius unit [options] [STORE key | STOREDIST key]
fn georadius(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    search(cx, args, Kind::Radius, true)
}

const GEORADIUS_RO: Row<DataFn> = Spec::new("georadius_ro", -6, Group::Geo)
    .flags(Flags::READONLY)
    .acl(Acl::GEO)
    .since("3.2.10")
    .cost(SEARCH_COST)
    .about("Finds the members of a sorted set within a distance of a place.")
    .history(&[("6.2.0", "The option `ANY` for `COUNT`.")])
    .deprecated("6.2.0", "`GEOSEARCH` with the `BYRADIUS` argument")
    .keys(&[READ])
    .args(&[
        Arg::key("key", 0),
        Arg::double("longitude"),
        Arg::double("latitude"),
        Arg::double("radius"),
        UNIT,
        WITHCOORD,
        WITHDIST,
        WITHHASH,
        COUNT_62,
        ORDER,
    ])
    .run(georadius_ro);

/// GEORADIUS_RO key longitude latitude radius unit [options]
fn georadius_ro(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    search(cx, args, Kind::Radius, false)
}

const GEORADIUSBYMEMBER: Row<DataFn> = Spec::new("georadiusbymember", -5, Group::Geo)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::GEO)
    .since("3.2.0")
    .cost(SEARCH_COST)
    .about("Finds the members of a sorted set within a distance of one of them; may store them.")
    .history(&[("7.0.0", "Units in upper case.")])
    .deprecated(
        "6.2.0",
        "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments",
    )
    .keys(&[READ, key_behind("STORE", 5), key_behind("STOREDIST", 5)])
    .args(&[
        Arg::key("key", 0),
        Arg::string("member"),
        Arg::double("radius"),
        UNIT,
        WITHCOORD,
        WITHDIST,
        WITHHASH,
        COUNT,
        ORDER,
        STORE,
    ])
    .find_keys(radius_keys)
    .run(georadiusbymember);

/// GEORADIUSBYMEMBER key member radius unit [options] [STORE key | STOREDIST key]
fn georadiusbymember(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    search(cx, args, Kind::RadiusByMember, true)
}

const GEORADIUSBYMEMBER_RO: Row<DataFn> = Spec::new("georadiusbymember_ro", -5, Group::Geo)
    .flags(Flags::READONLY)
    .acl(Acl::GEO)
    .since("3.2.10")
    .cost(SEARCH_COST)
    .about("Finds the members of a sorted set within a distance of one of them.")
    .deprecated(
        "6.2.0",
        "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments",
    )
    .keys(&[READ])
    .args(&[
        Arg::key("key", 0),
        Arg::string("member"),
        Arg::double("radius"),
        UNIT,
        WITHCOORD,
        WITHDIST,
        WITHHASH,
        COUNT,
        ORDER,
    ])
    .run(georadiusbymember_ro);

/// GEORADIUSBYMEMBER_RO key member radius unit [options]
fn georadiusbymember_ro(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    search(cx, args, Kind::RadiusByMember, false)
}

const GEOSEARCH: Row<DataFn> = Spec::new("geosearch", -7, Group::Geo)
    .flags(Flags::READONLY)
    .acl(Acl::GEO)
    .since("6.2.0")
    .cost(SEARCH_COST)
    .about("Finds the members of a sorted set in a circle or a box.")
    .history(&[("7.0.0", "Units in upper case.")])
    .keys(&[READ])
    .args(&[
        Arg::key("key", 0),
        FROM,
        BY,
        ORDER,
        COUNT,
        WITHCOORD,
        WITHDIST,
        WITHHASH,
    ])
    .run(geosearch);

/// GEOSEARCH key FROMMEMBER member | FROMLONLAT lon lat BYRADIUS radius unit | BYBOX width height unit [options]
fn geosearch(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    search(cx, args, Kind::Search, false)
}

const GEOSEARCHSTORE: Row<DataFn> = Spec::new("geosearchstore", -8, Group::Geo)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::GEO)
    .since("6.2.0")
    .cost(SEARCH_COST)
    .about("Stores the members of a sorted set that are in a circle or a box.")
    .history(&[("7.0.0", "Units in upper case.")])
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::OW.or(KeyFlags::UPDATE)),
        KeySpec::at(2).flags(KeyFlags::RO.or(KeyFlags::ACCESS)),
    ])
    .args(&[
        Arg::key("destination", 0),
        Arg::key("source", 1),
        FROM,
        BY,
        ORDER,
        COUNT,
        Arg::word("storedist", "STOREDIST").optional(),
    ])
    .run(geosearchstore);

/// GEOSEARCHSTORE destination source, then as GEOSEARCH; with STOREDIST the scores are the distances.
fn geosearchstore(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    search(cx, args, Kind::SearchStore, false)
}
