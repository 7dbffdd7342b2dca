//! SORT and SORT_RO: the elements of a list, set or sorted set in an order of their own, or of what other keys say.
//!
//! 1. The options are read ([`Query`]).
//! 2. The elements are copied out of the key, with `LIMIT` if the order is theirs already ([`load`]).
//! 3. Each gets what it is compared by: a number or a text, of itself or of the key that `BY` makes of it ([`weigh`]).
//! 4. They are sorted. Equal numbers are told apart by the elements' bytes, so that the result is always the same.
//! 5. What `GET` asks for is looked up and replied, or goes into the list that `STORE` names.

use std::cmp::Ordering;
use std::ffi::CStr;
use std::ops::Range;

use smallvec::SmallVec;

use crate::base::collate;
use crate::base::number::{parse_f64, parse_i64};
use crate::base::partial_sort::partial_sort;
use crate::base::quoted::is_space;
use crate::cmd::fault::{CmdResult, DONE, Fault, NOT_INTEGER, SYNTAX, WRONG_TYPE};
use crate::cmd::keys::Keys;
use crate::cmd::session::Marks;
use crate::cmd::spec::{
    Acl, Arg, Begin, Find, FindKeys, Flags, Group, KeyFlags, KeyRef, KeySpec, Spec,
};
use crate::cmd::string::reply_str;
use crate::cmd::{Args, Ctx, DataFn, Row, is_word, list};
use crate::config::NotifyFlags;
use crate::ds::listpack::Elem;
use crate::object::list::{End, Item, List, NewElem};
use crate::object::zset::{Rules as ZsetRules, Zset};
use crate::object::{Str, Type, ValueRef};

pub static ROWS: &[Row<DataFn>] = &[SORT, SORT_RO];

const BY_IN_CLUSTER: Fault = Fault::new("ERR BY option of SORT denied in Cluster mode.");
const BY_DENIED: Fault =
    Fault::new("ERR BY option of SORT denied due to insufficient ACL permissions.");
const GET_DENIED: Fault =
    Fault::new("ERR GET option of SORT denied due to insufficient ACL permissions.");
const GET_IN_CLUSTER: Fault = Fault::new("ERR GET option of SORT denied in Cluster mode.");
const NOT_NUMBERS: Fault = Fault::new("ERR One or more scores can't be converted into double");

const SORTED: KeySpec = KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS));
const LOOKED_UP: KeySpec = KeySpec::new(Begin::Unknown, Find::Unknown)
    .flags(KeyFlags::RO.or(KeyFlags::ACCESS))
    .notes("Keys that BY and GET look up: their names are made of the elements");
const STORED: KeySpec = KeySpec::new(Begin::Unknown, Find::Unknown)
    .flags(KeyFlags::OW.or(KeyFlags::UPDATE))
    .notes("The key that STORE names, which may stand anywhere among the options");

const BY: Arg = Arg::pattern("by-pattern")
    .key_spec(1)
    .token("BY")
    .display("pattern")
    .optional();
const LIMIT: Arg = Arg::block("limit", &[Arg::int("offset"), Arg::int("count")])
    .token("LIMIT")
    .optional();
const GET: Arg = Arg::pattern("get-pattern")
    .key_spec(1)
    .token("GET")
    .display("pattern")
    .optional()
    .multiple()
    .multiple_token();
const ORDER: Arg = Arg::one_of(
    "order",
    &[Arg::word("asc", "ASC"), Arg::word("desc", "DESC")],
)
.optional();
const ALPHA: Arg = Arg::word("sorting", "ALPHA").optional();

const SORT: Row<DataFn> = Spec::new("sort", -2, Group::Generic)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::SET.or(Acl::SORTEDSET).or(Acl::LIST).or(Acl::DANGEROUS))
    .since("1.0.0")
    .cost("O(N+M*log(M)) with N elements, M of them replied; O(N) if nothing is to be sorted")
    .about("Sorts the elements of a list, set or sorted set, and replies or stores the result.")
    .keys(&[SORTED, LOOKED_UP, STORED])
    .args(&[
        Arg::key("key", 0),
        BY,
        LIMIT,
        GET,
        ORDER,
        ALPHA,
        Arg::key("destination", 2).token("STORE").optional(),
    ])
    .find_keys(sort_keys)
    .run(sort);

/// SORT key [BY pattern] [LIMIT offset count] [GET pattern ...] [ASC | DESC] [ALPHA] [STORE destination]
fn sort(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    let query = Query::parse(args, true, Foreign::of(cx, args.argv(), sort_keys))?;
    run(cx, key, query)
}

const SORT_RO: Row<DataFn> = Spec::new("sort_ro", -2, Group::Generic)
    .flags(Flags::READONLY)
    .acl(Acl::SET.or(Acl::SORTEDSET).or(Acl::LIST).or(Acl::DANGEROUS))
    .since("7.0.0")
    .cost("O(N+M*log(M)) with N elements, M of them replied; O(N) if nothing is to be sorted")
    .about("Sorts the elements of a list, set or sorted set, and replies the result.")
    .keys(&[SORTED, LOOKED_UP])
    .args(&[Arg::key("key", 0), BY, LIMIT, GET, ORDER, ALPHA])
    .find_keys(sort_ro_keys)
    .run(sort_ro);

/// SORT_RO key ...: as SORT, without STORE.
fn sort_ro(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    let query = Query::parse(args, false, Foreign::of(cx, args.argv(), sort_ro_keys))?;
    run(cx, key, query)
}

/// The key that is sorted.
fn sort_ro_keys(_: &[&[u8]]) -> Option<Vec<KeyRef>> {
    let flags = KeyFlags::RO | KeyFlags::ACCESS;
    Some(vec![KeyRef { pos: 1, flags }])
}

/// The key that is sorted, and the one that the last STORE names.
fn sort_keys(args: &[&[u8]]) -> Option<Vec<KeyRef>> {
    let mut keys = sort_ro_keys(args)?;
    let mut at = 2;
    while let Some(word) = args.get(at) {
        if is_word(word, "LIMIT") {
            at += 2;
        } else if is_word(word, "GET") || is_word(word, "BY") {
            at += 1;
        } else if is_word(word, "STORE") && at + 1 < args.len() {
            keys.truncate(1);
            keys.push(KeyRef {
                pos: at + 1,
                flags: KeyFlags::OW | KeyFlags::UPDATE,
            });
        }
        at += 1;
    }
    Some(keys)
}

// --- What is asked for -----------------------------------------------------------------------------------------

/// What a pattern of BY or GET leads to.
#[derive(Clone, Copy)]
enum Pattern<'a> {
    /// `#`: the element itself.
    Element,
    /// No `*`: nothing.
    Nothing,
    /// The key named `before`, element, `after`: its string, or that field of its hash.
    Key {
        before: &'a [u8],
        after: &'a [u8],
        field: Option<&'a [u8]>,
    },
}

impl<'a> Pattern<'a> {
    /// The star and the arrow are sought as C seeks them, up to a zero byte.
    fn parse(pattern: &'a [u8]) -> Pattern<'a> {
        let text = pattern.split(|&b| b == 0).next().unwrap_or_default();
        if text == b"#" {
            return Pattern::Element;
        }
        let Some(star) = text.iter().position(|&b| b == b'*') else {
            return Pattern::Nothing;
        };
        let (before, after) = (&pattern[..star], &pattern[star + 1..]);
        let arrow = text[star + 1..].windows(2).position(|pair| pair == b"->");
        // An arrow with nothing behind it is part of the name.
        match arrow.filter(|at| star + 1 + at + 2 < text.len()) {
            Some(at) => Pattern::Key {
                before,
                after: &after[..at],
                field: Some(&after[at + 2..]),
            },
            None => Pattern::Key {
                before,
                after,
                field: None,
            },
        }
    }

    /// Looks up what the pattern leads to for an element.
    fn look_up<'k>(self, keys: &'k mut Keys<'_>, element: &'k [u8]) -> Option<Str<'k>> {
        let (before, after, field) = match self {
            Pattern::Element => return Some(Str::Text(element)),
            Pattern::Nothing => return None,
            Pattern::Key {
                before,
                after,
                field,
            } => (before, after, field),
        };
        let name: SmallVec<[u8; 64]> = [before, element, after]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        match (keys.read(&name)?.value(), field) {
            (ValueRef::Str(text), None) => Some(text),
            (ValueRef::Hash(hash), Some(field)) => hash.get(field),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    Numbers,
    /// As bytes.
    Bytes,
    /// By the locale's order.
    Words,
}

/// The options of a SORT.
struct Query<'a> {
    by: Option<Pattern<'a>>,
    /// BY named no key: the order is what it is.
    keep_order: bool,
    get: SmallVec<[Pattern<'a>; 4]>,
    limit: (i64, i64),
    descending: bool,
    alpha: bool,
    store: Option<&'a [u8]>,
}

/// Whether keys may be looked at that no argument names, which BY and GET make up.
#[derive(Clone, Copy)]
struct Foreign {
    /// They may be anywhere in a cluster.
    in_cluster: bool,
    /// The user may read every key there is.
    allowed: bool,
}

impl Foreign {
    fn of(cx: &Ctx<'_>, argv: &[&[u8]], find_keys: FindKeys) -> Foreign {
        Foreign {
            in_cluster: cx.config().cluster_enabled,
            allowed: cx.may_read_every_key(argv, find_keys),
        }
    }
}

impl<'a> Query<'a> {
    fn parse(mut args: Args<'a>, may_store: bool, foreign: Foreign) -> Result<Query<'a>, Fault> {
        let mut query = Query {
            by: None,
            keep_order: false,
            get: SmallVec::new(),
            limit: (0, -1),
            descending: false,
            alpha: false,
            store: None,
        };
        while args.more() {
            let word = args.next()?;
            if is_word(word, "ASC") {
                query.descending = false;
            } else if is_word(word, "DESC") {
                query.descending = true;
            } else if is_word(word, "ALPHA") {
                query.alpha = true;
            } else if is_word(word, "LIMIT") && args.left() >= 2 {
                let (start, count) = args.two()?;
                let start = parse_i64(start).ok_or(NOT_INTEGER)?;
                query.limit = (start, parse_i64(count).ok_or(NOT_INTEGER)?);
            } else if may_store && is_word(word, "STORE") {
                query.store = Some(args.next()?);
            } else if is_word(word, "BY") {
                let pattern = Pattern::parse(args.next()?);
                if !matches!(pattern, Pattern::Key { .. }) {
                    query.keep_order = true;
                } else if foreign.in_cluster {
                    return Err(BY_IN_CLUSTER);
                } else if !foreign.allowed {
                    return Err(BY_DENIED);
                }
                query.by = Some(pattern);
            } else if is_word(word, "GET") {
                let pattern = args.next()?;
                if foreign.in_cluster {
                    return Err(GET_IN_CLUSTER);
                }
                if !foreign.allowed {
                    return Err(GET_DENIED);
                }
                query.get.push(Pattern::parse(pattern));
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(query)
    }

    /// A set has no order of its own: to store it, one is made up, so that every replica stores the same. Scripts are
    /// used to it as well.
    fn settle(&mut self, of: Type, scripted: bool) {
        if self.keep_order && of == Type::Set && (self.store.is_some() || scripted) {
            self.keep_order = false;
            self.alpha = true;
            self.by = None;
        }
    }

    /// The part of `len` elements that is wanted.
    fn range(&self, len: usize) -> Range<usize> {
        let (start, count) = self.limit;
        let clamp = |n: i64| usize::try_from(n).unwrap_or(usize::MAX).min(len);
        let start = clamp(start.max(0));
        let end = if count < 0 {
            len
        } else {
            start.saturating_add(clamp(count)).min(len)
        };
        start..end
    }

    fn compare(&self) -> Compare {
        match (self.alpha, self.store) {
            (false, _) => Compare::Numbers,
            (true, Some(_)) => Compare::Bytes,
            (true, None) => Compare::Words,
        }
    }
}

// --- The elements ----------------------------------------------------------------------------------------------

/// One element: where its text lies, and what it is compared by.
struct Element {
    text: Range<usize>,
    number: f64,
    /// Where the text lies that BY found; `None` if it found nothing.
    by: Option<Range<usize>>,
}

/// Copies of the elements, all texts in one buffer, each with a zero byte behind it: `strcoll` wants that.
#[derive(Default)]
struct Elements {
    texts: Vec<u8>,
    all: Vec<Element>,
}

impl Elements {
    fn keep(&mut self, slices: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        let start = self.texts.len();
        slices(&mut self.texts);
        let end = self.texts.len();
        self.texts.push(0);
        start..end
    }

    fn push(&mut self, text: &[u8]) {
        let text = self.keep(|texts| texts.extend_from_slice(text));
        self.all.push(Element {
            text,
            number: 0.0,
            by: None,
        });
    }

    fn push_elem(&mut self, elem: Elem<'_>) {
        self.push(elem.text(&mut itoa::Buffer::new()));
    }

    fn push_item(&mut self, item: Item<'_>) {
        match item {
            Item::Elem(elem) => self.push_elem(elem),
            Item::Whole(bytes) => self.push(bytes),
        }
    }

    fn text(&self, of: &Range<usize>) -> &[u8] {
        &self.texts[of.clone()]
    }

    fn word(&self, of: &Range<usize>) -> &CStr {
        CStr::from_bytes_until_nul(&self.texts[of.start..]).unwrap_or_default()
    }

    fn cmp_texts(&self, a: &Range<usize>, b: &Range<usize>, how: Compare) -> Ordering {
        match how {
            Compare::Words => collate::compare(self.word(a), self.word(b)),
            Compare::Numbers | Compare::Bytes => self.text(a).cmp(self.text(b)),
        }
    }

    fn cmp(&self, a: &Element, b: &Element, query: &Query<'_>) -> Ordering {
        let how = query.compare();
        match (how, query.by, &a.by, &b.by) {
            (Compare::Numbers, ..) => a
                .number
                .partial_cmp(&b.number)
                .unwrap_or(Ordering::Equal)
                .then_with(|| self.cmp_texts(&a.text, &b.text, how)),
            (_, None, ..) => self.cmp_texts(&a.text, &b.text, how),
            (_, Some(_), Some(a), Some(b)) => self.cmp_texts(a, b, how),
            // What BY found nothing for comes first.
            (_, Some(_), a, b) => a.is_some().cmp(&b.is_some()),
        }
    }

    /// Sorts, as far as `wanted`. The order of what is equal is Redis's: the old one, unless weights are compared and
    /// only a part is wanted.
    fn sort(&mut self, query: &Query<'_>, wanted: &Range<usize>) {
        let mut all = std::mem::take(&mut self.all);
        let mut compare = |a: &Element, b: &Element| {
            let order = self.cmp(a, b, query);
            if query.descending {
                order.reverse()
            } else {
                order
            }
        };
        if query.by.is_some() && *wanted != (0..all.len()) {
            partial_sort(&mut all, wanted.clone(), &mut compare);
        } else if query.by.is_none() && !query.alpha && wanted.end < all.len() {
            // (What is equal here is the same text.)
            all.select_nth_unstable_by(wanted.end, &mut compare);
            all[..wanted.end].sort_by(compare);
        } else {
            all.sort_by(compare);
        }
        self.all = all;
    }
}

/// Copies the elements of the key, and settles what its type has a say in. Gives with them the part that is wanted.
fn load(
    cx: &mut Ctx<'_>,
    key: &[u8],
    query: &mut Query<'_>,
) -> Result<(Elements, Range<usize>), Fault> {
    let scripted = cx.session.marks.has(Marks::SCRIPT);
    let mut elements = Elements::default();
    let Some(value) = cx.keys.read(key).map(|entry| entry.value()) else {
        return Ok((elements, 0..0));
    };
    let range = match value {
        ValueRef::List(list) if query.keep_order => {
            let range = query.range(list.len());
            let (from, towards) = match query.descending {
                false => (range.start, End::Tail),
                true => (list.len().saturating_sub(range.start + 1), End::Head),
            };
            list.read(from, towards, range.len(), |item| elements.push_item(item));
            0..range.len()
        }
        ValueRef::List(list) => {
            list.read(0, End::Tail, list.len(), |item| elements.push_item(item));
            query.range(list.len())
        }
        ValueRef::Set(set) => {
            query.settle(Type::Set, scripted);
            set.iter().for_each(|elem| elements.push_elem(elem));
            query.range(elements.all.len())
        }
        ValueRef::Zset(zset) => {
            let (len, range) = (zset.len(), query.range(zset.len()));
            let ranks = match (query.keep_order, query.descending) {
                (false, _) => 0..len,
                (true, false) => range.clone(),
                (true, true) => len - range.end..len - range.start,
            };
            let members = zset.items(ranks, query.keep_order && query.descending);
            members.for_each(|(member, _)| elements.push_elem(member));
            let is_small = zset.listpack().is_some();
            if is_small {
                enlarge(cx, key);
            }
            if query.keep_order {
                0..range.len()
            } else {
                range
            }
        }
        _ => return Err(WRONG_TYPE),
    };
    Ok((elements, range))
}

/// Redis turns a sorted set that it sorts into a skiplist, and OBJECT ENCODING shows it.
fn enlarge(cx: &mut Ctx<'_>, key: &[u8]) {
    let rules = ZsetRules {
        entries_max: 0,
        value_max: 0,
        hash_key: cx.keys.hash_key(),
    };
    cx.keys
        .change(key, |zset: &mut Zset, _| zset.expect(&rules, usize::MAX));
}

/// Gives each element what it is compared by.
fn weigh(cx: &mut Ctx<'_>, elements: &mut Elements, query: &Query<'_>) -> Result<(), Fault> {
    let mut all = std::mem::take(&mut elements.all);
    let mut only_numbers = true;
    for element in &mut all {
        let Some(by) = query.by else {
            if !query.alpha {
                let number = read_number(elements.text(&element.text));
                only_numbers &= number.is_some();
                element.number = number.unwrap_or(0.0);
            }
            continue;
        };
        let text = elements.text(&element.text).to_vec();
        let Some(found) = by.look_up(&mut cx.keys, &text) else {
            continue;
        };
        if query.alpha {
            element.by = Some(elements.keep(|texts| {
                texts.extend_from_slice(&found.contiguous(&mut itoa::Buffer::new()));
            }));
        } else {
            let number = read_number(&found.contiguous(&mut itoa::Buffer::new()));
            only_numbers &= number.is_some();
            element.number = number.unwrap_or(0.0);
        }
    }
    elements.all = all;
    if only_numbers {
        Ok(())
    } else {
        Err(NOT_NUMBERS)
    }
}

/// Reads a number as C's `strtod` does on a text that ends at a zero byte: blanks may stand before it, nothing behind, and
/// no text at all is zero.
fn read_number(text: &[u8]) -> Option<f64> {
    let text = text.split(|&b| b == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(0.0);
    }
    let blanks = text.iter().take_while(|b| is_space(**b)).count();
    parse_f64(&text[blanks..]).filter(|number| !number.is_subnormal())
}

// --- The result ------------------------------------------------------------------------------------------------

fn run(cx: &mut Ctx<'_>, key: &[u8], mut query: Query<'_>) -> CmdResult {
    let (mut elements, range) = load(cx, key, &mut query)?;
    if !query.keep_order {
        // Whatever was found, all is looked up before an error is told.
        weigh(cx, &mut elements, &query)?;
        elements.sort(&query, &range);
    }
    let chosen = &elements.all[range];
    match query.store {
        Some(destination) => store(cx, destination, &query, &elements, chosen),
        None => reply(cx, &query, &elements, chosen),
    }
}

fn reply(
    cx: &mut Ctx<'_>,
    query: &Query<'_>,
    elements: &Elements,
    chosen: &[Element],
) -> CmdResult {
    cx.reply.array(chosen.len() * query.get.len().max(1));
    for element in chosen {
        let text = elements.text(&element.text);
        if query.get.is_empty() {
            cx.reply.bulk(text);
        }
        for pattern in &query.get {
            match pattern.look_up(&mut cx.keys, text) {
                Some(value) => reply_str(cx.reply, value),
                None => cx.reply.null(),
            }
        }
    }
    DONE
}

/// Stores the result as a list, or deletes the key if there is none, and replies its length.
fn store(
    cx: &mut Ctx<'_>,
    destination: &[u8],
    query: &Query<'_>,
    elements: &Elements,
    chosen: &[Element],
) -> CmdResult {
    let rules = list::rules(&cx.keys);
    let len = chosen.len() * query.get.len().max(1);
    cx.reply.int(len as i64);
    if len == 0 {
        if cx.keys.remove(destination) {
            cx.changed(destination, 1);
            cx.event(NotifyFlags::GENERIC, "del", destination);
        }
        return DONE;
    }
    let texts = chosen.iter().map(|element| elements.text(&element.text));
    let list = if query.get.is_empty() {
        List::of(texts.map(NewElem::from), &rules)
    } else {
        let mut found = Vec::with_capacity(len);
        for (text, pattern) in texts.flat_map(|text| query.get.iter().map(move |p| (text, p))) {
            let value = pattern.look_up(&mut cx.keys, text);
            found.push(value.map_or_else(Vec::new, Str::to_vec));
        }
        List::of(found.iter().map(|text| NewElem::from(&text[..])), &rules)
    };
    cx.keys.store(destination, list);
    cx.changed(destination, len as u64);
    cx.event(NotifyFlags::LIST, "sortstore", destination);
    DONE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_strtod_reads_them() {
        assert_eq!(read_number(b""), Some(0.0));
        assert_eq!(read_number(b" \t-2.5"), Some(-2.5));
        assert_eq!(read_number(b"7\0seven"), Some(7.0));
        assert_eq!(read_number(b"inf"), Some(f64::INFINITY));
        for bad in [&b" "[..], b"1 ", b"nan", b"1e400", b"1e-400", b"abc"] {
            assert_eq!(read_number(bad), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn patterns_name_keys_and_fields() {
        let parts = |text: &'static str| match Pattern::parse(text.as_bytes()) {
            Pattern::Key {
                before,
                after,
                field,
            } => (before, after, field),
            _ => panic!("{text} names no key"),
        };
        assert_eq!(parts("w_*"), (&b"w_"[..], &b""[..], None));
        assert_eq!(
            parts("a*b->c->d"),
            (&b"a"[..], &b"b"[..], Some(&b"c->d"[..]))
        );
        assert_eq!(parts("a->b*"), (&b"a->b"[..], &b""[..], None));
        assert_eq!(parts("*->"), (&b""[..], &b"->"[..], None));
        assert!(matches!(Pattern::parse(b"#"), Pattern::Element));
        assert!(matches!(Pattern::parse(b"nosort"), Pattern::Nothing));
    }

    #[test]
    fn the_last_store_names_a_key() {
        let positions = |words: &'static str| -> Vec<usize> {
            let args: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
            let keys = sort_keys(&args).unwrap_or_default();
            keys.into_iter().map(|key| key.pos).collect()
        };
        assert_eq!(positions("sort k by store limit 0 store store d"), [1, 8]);
        assert_eq!(positions("sort k store a store b"), [1, 5]);
        assert_eq!(positions("sort k store"), [1]);
    }
}
