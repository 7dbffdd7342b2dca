//! The face of sorted sets: a small one is a listpack, a larger one a [`Ranked`].
//!
//! In the listpack each member is followed by its score, and the pairs lie in order; the bytes are Redis's own. It grows
//! into a `Ranked` (which `OBJECT ENCODING` calls `skiplist`) by the thresholds that are handed in, and never turns back;
//! only the results of ZUNIONSTORE and its kin begin small whenever they fit.
//!
//! All ranges come down to ranks: a range of scores or of members is looked up as two ranks, and what is between them is
//! read, counted or removed.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Range;

use super::table::select;
use super::value::{Container, Encoding, Heap, ValueRef};
use crate::base::alloc::size_class;
use crate::base::double::{as_integer, format_double};
use crate::base::number::parse_f64;
use crate::base::rng::Rng;
use crate::ds::cow::Shared;
use crate::ds::defrag::{Mover, Step};
use crate::ds::dict::{Dict, HashKey, Record};
use crate::ds::listpack::{Elem, Iter, Listpack, Needle, Pos};
use crate::ds::zset::{Gap, Items, Member, Ranked};

/// What decides how a sorted set is stored.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Most members of a listpack (`zset-max-listpack-entries`).
    pub entries_max: usize,
    /// The longest member of a listpack (`zset-max-listpack-value`).
    pub value_max: usize,
    /// What dicts hash under.
    pub hash_key: HashKey,
}

/// An end of a range of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreEnd {
    pub score: f64,
    /// The score itself is not in the range.
    pub open: bool,
}

/// A range of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreRange {
    pub min: ScoreEnd,
    pub max: ScoreEnd,
}

impl ScoreRange {
    fn reaches(&self, score: f64) -> bool {
        score > self.min.score || (score == self.min.score && !self.min.open)
    }

    fn passed_by(&self, score: f64) -> bool {
        score > self.max.score || (score == self.max.score && self.max.open)
    }
}

/// An end of a range of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexEnd<'a> {
    /// Before all members.
    First,
    /// Behind all members.
    Last,
    /// At this member, which is in the range.
    Closed(&'a [u8]),
    /// At this member, which is not.
    Open(&'a [u8]),
}

/// A range of members, in the order of their bytes. It makes sense where all scores are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LexRange<'a> {
    pub min: LexEnd<'a>,
    pub max: LexEnd<'a>,
}

impl LexRange<'_> {
    fn is_from_min(&self, member: &[u8]) -> bool {
        match self.min {
            LexEnd::First => true,
            LexEnd::Last => false,
            LexEnd::Closed(min) => member >= min,
            LexEnd::Open(min) => member > min,
        }
    }

    fn is_to_max(&self, member: &[u8]) -> bool {
        match self.max {
            LexEnd::First => false,
            LexEnd::Last => true,
            LexEnd::Closed(max) => member <= max,
            LexEnd::Open(max) => member < max,
        }
    }

    /// True if no member can be in it.
    fn is_empty(&self) -> bool {
        match (self.min, self.max) {
            (LexEnd::Last, _) | (_, LexEnd::First) => true,
            (LexEnd::First, _) | (_, LexEnd::Last) => false,
            (LexEnd::Closed(min), LexEnd::Closed(max)) => min > max,
            (LexEnd::Closed(min) | LexEnd::Open(min), LexEnd::Closed(max) | LexEnd::Open(max)) => {
                min >= max
            }
        }
    }
}

/// See the head of the file.
#[derive(Debug)]
pub struct Zset {
    form: Form,
    left_behind: usize,
}

enum Form {
    Small(Listpack),
    Large(Box<Ranked>),
}

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Form::Small(pack) => write!(f, "{pack:?}"),
            Form::Large(ranked) => write!(f, "{} members", ranked.len()),
        }
    }
}

/// The element of a listpack that stands for a score.
fn score_elem<'a>(score: f64, text: &'a mut crate::base::double::DoubleText) -> Elem<'a> {
    match as_integer(score) {
        Some(int) => Elem::Int(int),
        None => {
            *text = format_double(score);
            Elem::Str(text.as_bytes())
        }
    }
}

/// The score that an element of a listpack stands for.
fn elem_score(elem: Elem<'_>) -> f64 {
    match elem {
        Elem::Int(int) => int as f64,
        Elem::Str(text) => parse_f64(text).unwrap_or(0.0),
    }
}

/// Where a pair of a new member goes, or the pair that is there.
enum Found {
    At(Pos, f64),
    Missing,
}

fn look_up(pack: &Listpack, member: &[u8]) -> Found {
    let Some(at) = pack.find(pack.first(), Needle::new(member), 1) else {
        return Found::Missing;
    };
    let score = pack.next(at).and_then(|at| pack.get(at));
    Found::At(at, score.map_or(0.0, elem_score))
}

/// Puts a pair in its place, which no pair of the same member has.
fn insert(pack: &mut Listpack, score: f64, member: &[u8]) {
    let mut text = format_double(0.0);
    let pair = [Elem::from(member), score_elem(score, &mut text)];
    let mut digits = itoa::Buffer::new();
    let mut at = pack.first();
    while let Some(here) = at {
        let Some(score_at) = pack.next(here) else {
            break;
        };
        let (Some(other), Some(other_score)) = (pack.get(here), pack.get(score_at)) else {
            break;
        };
        let other_score = elem_score(other_score);
        if other_score > score || (other_score == score && other.text(&mut digits) > member) {
            pack.insert_all(Some(here), &pair);
            return;
        }
        at = pack.next(score_at);
    }
    pack.insert_all(None, &pair);
}

/// Whether a member may stand right before another.
fn in_order(a: (&[u8], f64), b: (&[u8], f64)) -> bool {
    a.1 < b.1 || a.1 == b.1 && a.0 < b.0
}

/// The order of members. Both zeros are one score.
fn by_score(a: (&[u8], f64), b: (&[u8], f64)) -> Ordering {
    (a.1 + 0.0).total_cmp(&(b.1 + 0.0)).then(a.0.cmp(b.0))
}

impl Zset {
    /// An empty one for about so many members, the first of which is so long.
    pub fn for_adding(rules: &Rules, members: usize, first_len: usize) -> Zset {
        let large = members > rules.entries_max || first_len > rules.value_max;
        Zset::of(match large {
            true => Form::Large(Box::new(Ranked::new(rules.hash_key))),
            false => Form::Small(Listpack::new()),
        })
    }

    /// One of these members, which come in order and differ: a listpack if they fit.
    pub fn from_sorted<T: AsRef<[u8]>>(rules: &Rules, sorted: &[(T, f64)]) -> Zset {
        let bytes: usize = sorted.iter().map(|(m, _)| m.as_ref().len()).sum();
        let fits = sorted.len() <= rules.entries_max
            && sorted
                .iter()
                .all(|(m, _)| m.as_ref().len() <= rules.value_max);
        if !fits || !Listpack::new().has_room_for(bytes) {
            let sorted = sorted.iter().map(|(m, score)| (m.as_ref(), *score));
            return Zset::of(Form::Large(Box::new(Ranked::from_sorted(
                rules.hash_key,
                sorted,
            ))));
        }
        let mut pack = Listpack::new();
        let mut text = format_double(0.0);
        for (member, score) in sorted {
            pack.push_back_all(&[Elem::from(member.as_ref()), score_elem(*score, &mut text)]);
        }
        Zset::of(Form::Small(pack))
    }

    /// One of these members in any order, from a file: a listpack if they fit. `None` if a member comes twice.
    pub fn from_unsorted(rules: &Rules, mut members: Vec<(&[u8], f64)>) -> Option<Zset> {
        if !members.is_sorted_by(|a, b| in_order(*a, *b)) {
            members.sort_unstable_by(|a, b| by_score(*a, *b));
        }
        let zset = Zset::from_sorted(rules, &members);
        let twins = match &zset.form {
            Form::Large(ranked) => ranked.len() != members.len(),
            Form::Small(_) => {
                members.sort_unstable_by_key(|(member, _)| *member);
                members.windows(2).any(|pair| pair[0].0 == pair[1].0)
            }
        };
        (!twins).then_some(zset)
    }

    /// A large one of these members in any order, from a file. `None` if a member comes twice.
    pub fn from_members(rules: &Rules, mut members: Vec<Member>) -> Option<Zset> {
        fn pair(member: &Member) -> (&[u8], f64) {
            (member.key(), member.score())
        }
        if !members.is_sorted_by(|a, b| in_order(pair(a), pair(b))) {
            members.sort_unstable_by(|a, b| by_score(pair(a), pair(b)));
        }
        let len = members.len();
        let ranked = Ranked::from_members(rules.hash_key, len, members);
        (ranked.len() == len).then(|| Zset::of(Form::Large(Box::new(ranked))))
    }

    /// A listpack from a file, members and scores by turns: as it is if its members are in order and not too many. `None`
    /// if there is a member without a score, or a score that is no number.
    pub fn from_listpack(rules: &Rules, pack: Listpack) -> Option<Zset> {
        let mut sorted: Vec<(Vec<u8>, f64)> = Vec::new();
        let mut iter = pack.iter();
        let (mut in_order_so_far, mut last) = (true, None::<(Elem<'_>, f64)>);
        while let Some(member) = iter.next() {
            let score = match iter.next()? {
                Elem::Int(int) => int as f64,
                Elem::Str(text) => parse_f64(text)?,
            };
            let (mut a, mut b) = (itoa::Buffer::new(), itoa::Buffer::new());
            in_order_so_far &= last.is_none_or(|(before, before_score)| {
                in_order(
                    (before.text(&mut a), before_score),
                    (member.text(&mut b), score),
                )
            });
            last = Some((member, score));
        }
        if in_order_so_far {
            let mut zset = Zset::of(Form::Small(pack));
            if zset.len() > rules.entries_max {
                zset.enlarge(rules);
            }
            return Some(zset);
        }
        pairs(pack.iter()).for_each(|(member, score)| sorted.push((member.to_vec(), score)));
        sorted.sort_by(|(a, x), (b, y)| by_score((a, *x), (b, *y)));
        Some(Zset::from_sorted(rules, &sorted))
    }

    fn of(form: Form) -> Zset {
        Zset {
            form,
            left_behind: 0,
        }
    }

    /// The number of members.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Small(pack) => pack.len() / 2,
            Form::Large(ranked) => ranked.len(),
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The score of a member.
    #[inline]
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.form {
            Form::Small(pack) => match look_up(pack, member) {
                Found::At(_, score) => Some(score),
                Found::Missing => None,
            },
            Form::Large(ranked) => ranked.score(member),
        }
    }

    /// Leaves the listpack, if more than its members are to come at once.
    pub fn expect(&mut self, rules: &Rules, members: usize) {
        if members > rules.entries_max {
            self.enlarge(rules);
        }
    }

    /// Asks `f` for the score that a member shall have, given the one it has. `None`: nothing changes. A score that
    /// equals the old one changes nothing either.
    pub fn update(
        &mut self,
        rules: &Rules,
        member: &[u8],
        f: impl FnOnce(Option<f64>) -> Option<f64>,
    ) {
        let pack = match &mut self.form {
            Form::Large(ranked) => return ranked.update(member, f),
            Form::Small(pack) => pack,
        };
        match look_up(pack, member) {
            Found::At(at, old) => {
                if let Some(score) = f(Some(old)).filter(|&new| new != old) {
                    pack.remove_from(at, 2);
                    insert(pack, score, member);
                }
            }
            Found::Missing => {
                let Some(score) = f(None) else { return };
                let fits = pack.len() / 2 < rules.entries_max
                    && member.len() <= rules.value_max
                    && pack.has_room_for(member.len());
                if fits {
                    insert(pack, score, member);
                } else {
                    self.enlarge(rules).update(member, |_| Some(score));
                }
            }
        }
    }

    /// Leaves the listpack.
    fn enlarge(&mut self, rules: &Rules) -> &mut Ranked {
        if let Form::Small(pack) = &self.form {
            let mut sorted: Vec<(Vec<u8>, f64)> = Vec::with_capacity(pack.len() / 2);
            pairs(pack.iter()).for_each(|(member, score)| sorted.push((member.to_vec(), score)));
            let sorted = sorted.iter().map(|(member, score)| (&member[..], *score));
            let ranked = Ranked::from_sorted(rules.hash_key, sorted);
            self.form = Form::Large(Box::new(ranked));
        }
        match &mut self.form {
            Form::Large(ranked) => ranked,
            Form::Small(_) => unreachable!("just left"),
        }
    }

    /// Removes a member; true if it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.form {
            Form::Small(pack) => match look_up(pack, member) {
                Found::At(at, _) => {
                    pack.remove_from(at, 2);
                    true
                }
                Found::Missing => false,
            },
            Form::Large(ranked) => ranked.remove(member).is_some(),
        }
    }

    /// Removes the first member, or the last, and shows it to `f` with its score.
    pub fn pop<R>(&mut self, last: bool, f: impl FnOnce(Elem<'_>, f64) -> R) -> Option<R> {
        match &mut self.form {
            Form::Small(pack) => {
                let at = pack.seek(if last { -2 } else { 0 })?;
                let score = elem_score(pack.get(pack.next(at)?)?);
                let result = f(pack.get(at)?, score);
                pack.remove_from(at, 2);
                Some(result)
            }
            Form::Large(ranked) => ranked.pop(last, |member, score| f(Elem::Str(member), score)),
        }
    }

    /// Removes the members of a range of ranks.
    pub fn remove_ranks(&mut self, ranks: Range<usize>) {
        match &mut self.form {
            Form::Small(pack) => pack.remove_range(2 * ranks.start as i64, 2 * ranks.len()),
            Form::Large(ranked) => ranked.remove_ranks(ranks),
        }
    }

    /// The rank of a member, counted from 0, and its score.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match &self.form {
            Form::Small(pack) => pairs(pack.iter())
                .enumerate()
                .find(|(_, (other, _))| other.is(member))
                .map(|(rank, (_, score))| (rank, score)),
            Form::Large(ranked) => ranked.rank(member),
        }
    }

    /// The ranks of a range of scores.
    pub fn ranks_of_scores(&self, range: &ScoreRange) -> Range<usize> {
        let (from, until) = match &self.form {
            Form::Small(pack) => {
                let mut scores = pairs(pack.iter()).map(|(_, score)| score);
                let from = scores.by_ref().position(|score| range.reaches(score));
                let scores = pairs(pack.iter()).map(|(_, score)| score);
                let until = scores.take_while(|&score| !range.passed_by(score)).count();
                (from.unwrap_or(pack.len() / 2), until)
            }
            Form::Large(ranked) => {
                let (min, max) = (range.min, range.max);
                let from = ranked.count_before(match min.open {
                    true => Gap::AfterScore(min.score),
                    false => Gap::BeforeScore(min.score),
                });
                let until = ranked.count_before(match max.open {
                    true => Gap::BeforeScore(max.score),
                    false => Gap::AfterScore(max.score),
                });
                (from, until)
            }
        };
        from..until.max(from)
    }

    /// The ranks of a range of members, without the first `skip` of them (the last, in `reverse`).
    ///
    /// Where scores differ the members are not in order, and Redis looks from one end for the first that the range has
    /// reached, and takes what follows as long as it is in the range. A listpack is read likewise here.
    pub fn ranks_of_members(
        &self,
        range: &LexRange<'_>,
        reverse: bool,
        skip: usize,
    ) -> Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        match &self.form {
            Form::Small(pack) if reverse => lex_backward(pack, range, skip),
            Form::Small(pack) => lex_forward(pack, range, skip),
            Form::Large(ranked) => {
                let before = |end: LexEnd<'_>, is_max: bool| match end {
                    LexEnd::First => 0,
                    LexEnd::Last => ranked.len(),
                    LexEnd::Closed(member) if is_max => ranked.count_before(Gap::AfterLex(member)),
                    LexEnd::Open(member) if !is_max => ranked.count_before(Gap::AfterLex(member)),
                    LexEnd::Closed(member) | LexEnd::Open(member) => {
                        ranked.count_before(Gap::BeforeLex(member))
                    }
                };
                let (from, until) = (before(range.min, false), before(range.max, true));
                if reverse {
                    from..until.saturating_sub(skip).max(from)
                } else {
                    let from = from.saturating_add(skip).min(ranked.len());
                    from..until.max(from)
                }
            }
        }
    }

    /// The members of a range of ranks, in their order or from the last to the first.
    #[inline]
    pub fn items(&self, ranks: Range<usize>, reverse: bool) -> Members<'_> {
        let ranks = ranks.start..ranks.end.min(self.len());
        match &self.form {
            Form::Large(ranked) => Members(Source::Large(ranked.items(ranks, reverse))),
            Form::Small(pack) => {
                let left = ranks.len();
                let at = match (left, reverse) {
                    (0, _) => None,
                    (_, true) => pack.seek(2 * ranks.end as i64 - 1),
                    (_, false) => pack.seek(2 * ranks.start as i64),
                };
                Members(Source::Small {
                    iter: at.map(|at| match reverse {
                        true => pack.iter_until(at),
                        false => pack.iter_from(at),
                    }),
                    left,
                    reverse,
                })
            }
        }
    }

    /// All members in order.
    pub fn iter(&self) -> Members<'_> {
        self.items(0..self.len(), false)
    }

    /// The member of a rank, and its score.
    pub fn nth(&self, rank: usize) -> Option<(Elem<'_>, f64)> {
        self.items(rank..rank.saturating_add(1), false).next()
    }

    /// A member, each with the same chance.
    pub fn random(&self, rng: &mut Rng) -> Option<(Elem<'_>, f64)> {
        match self.len() {
            0 => None,
            len => self.nth(rng.index(len)),
        }
    }

    /// Calls `f` with `count` members drawn one by one from all of them, so that one may come several times.
    pub fn draw(&self, count: usize, rng: &mut Rng, mut f: impl FnMut(Elem<'_>, f64)) {
        let len = self.len();
        if let Form::Small(pack) = &self.form
            && count > 1
            && len > 0
        {
            // One walk, instead of one a draw.
            let all: Vec<(Elem<'_>, f64)> = pairs(pack.iter()).collect();
            for _ in 0..count {
                let (member, score) = all[rng.index(len)];
                f(member, score);
            }
            return;
        }
        for (member, score) in (0..count).map_while(|_| self.random(rng)) {
            f(member, score);
        }
    }

    /// Calls `f` with `count` members, none twice, each selection as likely as any other. At most all of them, and all
    /// of them from the last on.
    pub fn select(&self, count: usize, rng: &mut Rng, mut f: impl FnMut(Elem<'_>, f64)) {
        let len = self.len();
        if count >= len {
            self.items(0..len, true)
                .for_each(|(member, score)| f(member, score));
        } else if self.listpack().is_some() || count > len / 3 {
            // Where much of it is wanted, most draws would find what was drawn before.
            select(self.iter(), len, count, |n| rng.below(n), |(m, s)| f(m, s));
        } else {
            let mut drawn = BTreeSet::new();
            while drawn.len() < count {
                let rank = rng.index(len);
                if drawn.insert(rank)
                    && let Some((member, score)) = self.nth(rank)
                {
                    f(member, score);
                }
            }
        }
    }

    /// Calls `f` with some members from a cursor on, and gives the cursor to go on with, 0 at the end. A listpack is
    /// given whole.
    pub fn scan(&self, cursor: u64, count: usize, mut f: impl FnMut(Elem<'_>, f64)) -> u64 {
        match &self.form {
            Form::Small(pack) => {
                pairs(pack.iter()).for_each(|(member, score)| f(member, score));
                0
            }
            Form::Large(ranked) => {
                ranked.scan(cursor, count, |member, score| f(Elem::Str(member), score))
            }
        }
    }

    /// The dict of a large one, to fetch its lines ahead and for its shape.
    pub fn dict(&self) -> Option<&Dict<Member>> {
        match &self.form {
            Form::Large(ranked) => Some(ranked.dict()),
            Form::Small(_) => None,
        }
    }

    /// The listpack, of a small one: for those who write it into a file as it is.
    pub fn listpack(&self) -> Option<&Listpack> {
        match &self.form {
            Form::Small(pack) => Some(pack),
            Form::Large(_) => None,
        }
    }
}

/// From the first member that the range has reached.
fn lex_forward(pack: &Listpack, range: &LexRange<'_>, skip: usize) -> Range<usize> {
    let mut digits = itoa::Buffer::new();
    let mut is_from_min = |member: Elem<'_>| range.is_from_min(member.text(&mut digits));
    let mut digits = itoa::Buffer::new();
    let mut is_to_max = |member: Elem<'_>| range.is_to_max(member.text(&mut digits));
    let len = pack.len() / 2;
    let members = || pairs(pack.iter()).map(|(member, _)| member);
    let overlaps =
        pack.at(-2).is_some_and(&mut is_from_min) && pack.at(0).is_some_and(&mut is_to_max);
    let first = members().position(&mut is_from_min);
    let Some(first) = first.filter(|_| overlaps) else {
        return 0..0;
    };
    if !members().nth(first).is_some_and(&mut is_to_max) {
        return 0..0;
    }
    let from = first.saturating_add(skip).min(len);
    from..from + members().skip(from).take_while(|m| is_to_max(*m)).count()
}

/// From the last member that the range has not passed.
fn lex_backward(pack: &Listpack, range: &LexRange<'_>, skip: usize) -> Range<usize> {
    let mut digits = itoa::Buffer::new();
    let mut is_from_min = |member: Elem<'_>| range.is_from_min(member.text(&mut digits));
    let mut digits = itoa::Buffer::new();
    let mut is_to_max = |member: Elem<'_>| range.is_to_max(member.text(&mut digits));
    let members: Vec<Elem<'_>> = pairs(pack.iter()).map(|(member, _)| member).collect();
    let (Some(&front), Some(&back)) = (members.first(), members.last()) else {
        return 0..0;
    };
    let last = members.iter().rposition(|m| is_to_max(*m));
    let overlaps = is_from_min(back) && is_to_max(front);
    let Some(last) = last.filter(|&last| overlaps && is_from_min(members[last])) else {
        return 0..0;
    };
    let until = (last + 1).saturating_sub(skip);
    let inside = members[..until]
        .iter()
        .rev()
        .take_while(|m| is_from_min(**m));
    until - inside.count()..until
}

/// The pairs of a listpack.
fn pairs<'a>(mut iter: Iter<'a>) -> impl Iterator<Item = (Elem<'a>, f64)> {
    std::iter::from_fn(move || Some((iter.next()?, elem_score(iter.next()?))))
}

/// Members with their scores.
pub struct Members<'a>(Source<'a>);

enum Source<'a> {
    Small {
        iter: Option<Iter<'a>>,
        left: usize,
        reverse: bool,
    },
    Large(Items<'a>),
}

impl<'a> Iterator for Members<'a> {
    type Item = (Elem<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<(Elem<'a>, f64)> {
        match &mut self.0 {
            Source::Large(items) => items
                .next()
                .map(|(member, score)| (Elem::Str(member), score)),
            Source::Small {
                iter,
                left,
                reverse,
            } => {
                *left = left.checked_sub(1)?;
                let iter = iter.as_mut()?;
                if *reverse {
                    let score = elem_score(iter.next_back()?);
                    Some((iter.next_back()?, score))
                } else {
                    Some((iter.next()?, elem_score(iter.next()?)))
                }
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Source::Small { left, .. } => *left,
            Source::Large(items) => items.len(),
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for Members<'_> {}

impl Clone for Zset {
    /// A listpack is copied: whoever makes the copy in order to write leaves the old one behind.
    fn clone(&self) -> Zset {
        match &self.form {
            Form::Small(pack) => Zset {
                left_behind: pack.memory_bytes(),
                form: Form::Small(pack.clone()),
            },
            Form::Large(ranked) => Zset::of(Form::Large(ranked.clone())),
        }
    }
}

impl Container for Zset {
    type Ref<'a> = &'a Zset;

    fn into_heap(self) -> Heap {
        Heap::Zset(Shared::new(self))
    }

    #[inline]
    fn of(value: ValueRef<'_>) -> Option<&Self> {
        match value {
            ValueRef::Zset(it) => Some(it),
            _ => None,
        }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        Zset::is_empty(self)
    }

    fn encoding(&self) -> Encoding {
        match self.form {
            Form::Small(_) => Encoding::Listpack,
            Form::Large(_) => Encoding::Skiplist,
        }
    }

    fn free_effort(&self) -> usize {
        match &self.form {
            Form::Small(_) => 1,
            Form::Large(ranked) => ranked.len(),
        }
    }

    fn memory_bytes(&self) -> usize {
        let behind = match &self.form {
            Form::Small(pack) => pack.memory_bytes(),
            Form::Large(ranked) => size_class(size_of::<Ranked>(), 8) + ranked.memory_bytes(),
        };
        size_class(size_of::<Zset>() + 8, 8) + behind
    }

    fn freed_by_drop(&self) -> usize {
        let behind = match &self.form {
            Form::Small(pack) => pack.memory_bytes(),
            Form::Large(ranked) => size_class(size_of::<Ranked>(), 8) + ranked.freed_by_drop(),
        };
        size_class(size_of::<Zset>() + 8, 8) + behind
    }

    fn defrag(&mut self, step: Step, mover: &mut Mover<'_>) -> Option<Step> {
        match &mut self.form {
            Form::Small(pack) => {
                pack.defrag(mover);
                None
            }
            Form::Large(ranked) => {
                if step == Step::default() {
                    mover.boxed(ranked);
                }
                ranked.defrag(step, mover)
            }
        }
    }

    fn take_left_behind(&mut self) -> usize {
        let behind = match &mut self.form {
            Form::Small(_) => 0,
            Form::Large(ranked) => ranked.take_left_behind(),
        };
        std::mem::take(&mut self.left_behind) + behind
    }
}

#[cfg(test)]
mod tests;
