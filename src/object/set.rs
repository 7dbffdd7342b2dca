//! The face of a set value.
//!
//! A set has three forms, named as `OBJECT ENCODING` names them. Which one it has follows Redis's rules to the letter,
//! because clients and tests look at it:
//!
//! ```text
//!                integers only, few         short members, few           the rest
//!                ┌────────┐  a text, room   ┌──────────┐  full, or long   ┌───────────┐
//!                │ intset │ ──────────────▶ │ listpack │ ───────────────▶ │ hashtable │
//!                └────────┘                 └──────────┘                  └───────────┘
//!                     └──────────── too many, or a text and no room ──────────▲
//! ```
//! Members only ever move to the right, except that SINTERSTORE, SPOP and the like make new sets, which begin anew.
//! The limits are configuration and come in from outside ([`SetRules`]), since they may change between two commands.
//!
//! The small forms are sorted integers or a list to be searched from its start: cheap because small. The `hashtable` is
//! a dict of shared segments, of which a write under a snapshot copies one; the small ones are copied whole.

use std::convert::Infallible;
use std::fmt;

use super::table::{Table, draw, select, struct_bytes};
use super::value::{COMPACT_MAX, Compact, Container, Encoding, Heap, ValueRef};
use crate::base::number::parse_i64;
use crate::base::rng::Rng;
use crate::ds::cow::Shared;
use crate::ds::defrag::{Mover, Step};
use crate::ds::dict::{self, HashKey};
use crate::ds::intset::{Ints, Intset};
use crate::ds::listpack::{self, Elem, Listpack, Needle, Pack};
use crate::ds::member::Member;

/// An intset's length fits 32 bits with room to spare.
const INTSET_MAX: usize = 1 << 30;

/// Members of a set to be that are looked at before it takes its form.
const KNOWN_MAX: usize = 4096;

/// What decides over a set's form.
#[derive(Clone, Copy, Debug)]
pub struct SetRules {
    /// `set-max-intset-entries`
    pub intset_entries: usize,
    /// `set-max-listpack-entries`
    pub listpack_entries: usize,
    /// `set-max-listpack-value`: bytes of a member.
    pub listpack_value: usize,
    /// For the dict of a large one.
    pub hash_key: HashKey,
}

impl SetRules {
    fn intset_max(&self) -> usize {
        self.intset_entries.min(INTSET_MAX)
    }

    /// True if no small form could hold so many members: not even an intset, unless all are integers.
    fn want_table<'a, I: Iterator<Item = Elem<'a>>>(
        &self,
        len: usize,
        members: impl FnOnce() -> I,
    ) -> bool {
        len > self.listpack_entries
            && (len > self.intset_max() || members().any(|elem| elem.as_int().is_none()))
    }
}

/// A set. See the head of the file.
pub struct Set {
    body: Body,
    /// Bytes of small forms that were copied because others own them.
    left_behind: usize,
}

#[derive(Clone)]
enum Body {
    Intset(Intset),
    Listpack(Listpack),
    Table(Box<Table<Member>>),
}

/// A set to be read, wherever it lies.
#[derive(Clone, Copy)]
pub enum SetRef<'a> {
    Intset(Ints<'a>),
    Listpack(Pack<'a>),
    Table(&'a Table<Member>),
}

/// A member to be sought or added: its text, and the integer if it writes one.
#[derive(Clone, Copy)]
struct Key<'a> {
    text: &'a [u8],
    int: Option<i64>,
}

impl<'a> Key<'a> {
    fn of(elem: Elem<'a>, digits: &'a mut itoa::Buffer) -> Key<'a> {
        match elem {
            Elem::Int(int) => Key {
                text: digits.format(int).as_bytes(),
                int: Some(int),
            },
            Elem::Str(text) => Key {
                text,
                int: parse_i64(text),
            },
        }
    }
}

// --- Reading ---------------------------------------------------------------------------------------------------

impl<'a> SetRef<'a> {
    /// The number of members.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            SetRef::Intset(ints) => ints.len(),
            SetRef::Listpack(list) => list.len(),
            SetRef::Table(table) => table.len(),
        }
    }

    /// True if it has none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether this is a member.
    #[inline]
    pub fn contains(self, elem: Elem<'_>) -> bool {
        match (self, elem) {
            (SetRef::Intset(ints), Elem::Int(int)) => ints.contains(int),
            (SetRef::Intset(ints), Elem::Str(text)) => {
                parse_i64(text).is_some_and(|int| ints.contains(int))
            }
            (SetRef::Listpack(list), elem) => {
                let mut digits = itoa::Buffer::new();
                let needle = Needle::new(elem.text(&mut digits));
                list.find(list.first(), needle, 0).is_some()
            }
            (SetRef::Table(table), elem) => {
                table.get(elem.text(&mut itoa::Buffer::new())).is_some()
            }
        }
    }

    /// True if a look for a member does not walk over others.
    pub fn is_indexed(self) -> bool {
        !matches!(self, SetRef::Listpack(_))
    }

    /// The dict of a large one.
    pub fn as_table(self) -> Option<&'a Table<Member>> {
        match self {
            SetRef::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The listpack of a small one, if it is one.
    pub fn listpack(self) -> Option<Pack<'a>> {
        match self {
            SetRef::Listpack(pack) => Some(pack),
            _ => None,
        }
    }

    /// The encoding, by Redis's rules.
    pub fn encoding(self) -> Encoding {
        match self {
            SetRef::Intset(_) => Encoding::Intset,
            SetRef::Listpack(_) => Encoding::Listpack,
            SetRef::Table(_) => Encoding::Hashtable,
        }
    }

    /// All members, in an order that means nothing.
    pub fn iter(self) -> SetIter<'a> {
        match self {
            SetRef::Intset(ints) => SetIter::Intset(ints, 0),
            SetRef::Listpack(list) => SetIter::Listpack(list.iter()),
            SetRef::Table(table) => SetIter::Table(table.iter()),
        }
    }

    /// A member, each with the same chance; `None` of an empty set.
    pub fn random(self, rng: &mut Rng) -> Option<Elem<'a>> {
        match self {
            _ if self.is_empty() => None,
            SetRef::Intset(ints) => ints.get(rng.index(ints.len())).map(Elem::Int),
            SetRef::Listpack(list) => list.at(rng.index(list.len()) as i64),
            SetRef::Table(table) => table.random(|n| rng.below(n)).map(|m| Elem::Str(m.bytes())),
        }
    }

    /// Calls `f` with `count` members drawn one by one from all of them, so that one may come several times. The set is
    /// not empty.
    pub fn draw(self, count: usize, rng: &mut Rng, mut f: impl FnMut(Elem<'a>)) {
        if let SetRef::Listpack(list) = self
            && count > 1
        {
            return draw(list.iter(), count, rng, f);
        }
        (0..count).map_while(|_| self.random(rng)).for_each(&mut f);
    }

    /// Calls `f` with `count` members, none twice, each selection as likely as any other. At most all of them.
    pub fn select(self, count: usize, rng: &mut Rng, mut f: impl FnMut(Elem<'a>)) {
        match self {
            SetRef::Table(table) => table.select(count, rng, |m| f(Elem::Str(m.bytes()))),
            small => select(small.iter(), small.len(), count, |n| rng.below(n), f),
        }
    }

    /// Calls `f` with about `count` members from a cursor on, and gives the cursor to go on with: 0 at the end. A small
    /// set comes whole.
    pub fn scan(self, cursor: u64, count: usize, mut f: impl FnMut(Elem<'_>)) -> u64 {
        match self {
            SetRef::Table(table) => table.scan(cursor, count, |m| f(Elem::Str(m.bytes()))),
            small => {
                small.iter().for_each(f);
                0
            }
        }
    }
}

/// The members of a set.
pub enum SetIter<'a> {
    Intset(Ints<'a>, usize),
    Listpack(listpack::Iter<'a>),
    Table(dict::Iter<'a, Member>),
}

impl<'a> Iterator for SetIter<'a> {
    type Item = Elem<'a>;
    #[inline]
    fn next(&mut self) -> Option<Elem<'a>> {
        match self {
            SetIter::Intset(ints, at) => {
                let int = ints.get(*at)?;
                *at += 1;
                Some(Elem::Int(int))
            }
            SetIter::Listpack(iter) => iter.next(),
            SetIter::Table(iter) => iter.next().map(|m| Elem::Str(m.bytes())),
        }
    }
}

// --- Changing --------------------------------------------------------------------------------------------------

impl Set {
    fn from_body(body: Body) -> Set {
        Set {
            body,
            left_behind: 0,
        }
    }

    /// An empty intset: what the first member is then decides how it goes on.
    pub fn of_integers() -> Set {
        Set::from_body(Body::Intset(Intset::new()))
    }

    /// An empty listpack.
    pub fn of_texts() -> Set {
        Set::from_body(Body::Listpack(Listpack::new()))
    }

    /// An intset as it is, from a file.
    pub fn from_intset(ints: Intset) -> Set {
        Set::from_body(Body::Intset(ints))
    }

    /// A listpack as it is, from a file. No member may stand in it twice.
    pub fn from_listpack(list: Listpack) -> Set {
        Set::from_body(Body::Listpack(list))
    }

    /// A large set.
    pub fn from_table(table: Table<Member>) -> Set {
        Set::from_body(Body::Table(Box::new(table)))
    }

    /// An empty set in the form that suits about `count` members of which this is the first.
    pub fn for_members(first: &[u8], count: usize, rules: &SetRules) -> Set {
        if count <= rules.intset_entries && parse_i64(first).is_some() {
            Set::of_integers()
        } else if count <= rules.listpack_entries {
            Set::of_texts()
        } else {
            Set::from_table(Table::new(rules.hash_key))
        }
    }

    /// The set, to be read.
    #[inline]
    pub fn view(&self) -> SetRef<'_> {
        match &self.body {
            Body::Intset(ints) => SetRef::Intset(ints.ints()),
            Body::Listpack(list) => SetRef::Listpack(list.pack()),
            Body::Table(table) => SetRef::Table(table),
        }
    }

    fn len(&self) -> usize {
        self.view().len()
    }

    /// Makes it a hash table if about `count` more members would make it one anyway.
    pub fn prepare(&mut self, count: usize, rules: &SetRules) {
        let max = match self.body {
            Body::Intset(_) => rules.intset_entries,
            Body::Listpack(_) => rules.listpack_entries,
            Body::Table(_) => return,
        };
        if count > max {
            self.table(rules);
        }
    }

    /// Adds a member; false if it was one.
    #[inline]
    pub fn add(&mut self, elem: Elem<'_>, rules: &SetRules) -> bool {
        if let Body::Table(table) = &mut self.body {
            let mut digits = itoa::Buffer::new();
            let text = elem.text(&mut digits);
            return table.add(text, || Member::new(text));
        }
        self.add_small(Key::of(elem, &mut itoa::Buffer::new()), rules, false)
    }

    /// Adds what is known to be no member yet: a listpack is not searched for it.
    pub fn add_new(&mut self, elem: Elem<'_>, rules: &SetRules) {
        match self.body {
            Body::Table(_) => self.add(elem, rules),
            _ => self.add_small(Key::of(elem, &mut itoa::Buffer::new()), rules, true),
        };
    }

    /// The members of another set, in the form that adding one after the other to an empty set gives. The dict of a large
    /// one is shared, until either is written.
    pub fn gathered(from: SetRef<'_>, rules: &SetRules) -> Set {
        match from {
            SetRef::Table(table) if rules.want_table(from.len(), || from.iter()) => {
                Set::from_table(table.shared())
            }
            _ => Set::of_integers().with_new(from.iter(), rules),
        }
    }

    /// This empty set with members that all differ. What is to be a table is made one at once, large enough.
    pub fn with_new<'e>(
        mut self,
        mut members: impl Iterator<Item = Elem<'e>>,
        rules: &SetRules,
    ) -> Set {
        let known: Vec<Elem<'_>> = members.by_ref().take(KNOWN_MAX).collect();
        let table = match rules.want_table(known.len(), || known.iter().copied()) {
            true => {
                let mut left = known.iter();
                let member_of = |elem: &Elem<'_>| Member::new(elem.text(&mut itoa::Buffer::new()));
                let next = || Ok::<_, Infallible>(left.next().map(member_of));
                Table::filled(rules.hash_key, known.len(), next)
                    .ok()
                    .flatten()
            }
            false => None,
        };
        match table {
            Some(table) => self = Set::from_table(table),
            // (Also if some do not differ after all: then none is lost.)
            None => known.into_iter().for_each(|elem| self.add_new(elem, rules)),
        }
        members.for_each(|elem| self.add_new(elem, rules));
        self
    }

    fn add_small(&mut self, key: Key<'_>, rules: &SetRules, is_new: bool) -> bool {
        match &mut self.body {
            Body::Intset(ints) => {
                if let Some(int) = key.int {
                    let added = ints.insert(int);
                    if added && ints.ints().len() > rules.intset_max() {
                        self.table(rules);
                    }
                    return added;
                }
                let fits = ints_fit_listpack(ints.ints(), rules);
                if !fits || key.text.len() > rules.listpack_value {
                    self.table(rules);
                    return self.add(Elem::Str(key.text), rules);
                }
                let mut list = Listpack::new();
                ints.ints()
                    .iter()
                    .for_each(|int| list.push_back(Elem::Int(int)));
                list.push_back(Elem::Str(key.text));
                self.body = Body::Listpack(list);
                true
            }
            Body::Listpack(list) => {
                if !is_new && list.find(list.first(), Needle::new(key.text), 0).is_some() {
                    return false;
                }
                let fits = list.len() < rules.listpack_entries
                    && key.text.len() <= rules.listpack_value
                    && list.has_room_for(key.text.len());
                if !fits {
                    self.table(rules);
                    return self.add(Elem::Str(key.text), rules);
                }
                list.push_back(key.int.map_or(Elem::Str(key.text), Elem::Int));
                true
            }
            Body::Table(_) => self.add(Elem::Str(key.text), rules),
        }
    }

    /// Takes a member out; false if it was none.
    #[inline]
    pub fn remove(&mut self, elem: Elem<'_>) -> bool {
        let mut digits = itoa::Buffer::new();
        match &mut self.body {
            Body::Intset(ints) => Key::of(elem, &mut digits)
                .int
                .is_some_and(|int| ints.remove(int)),
            Body::Listpack(list) => {
                let found = list.find(list.first(), Needle::new(elem.text(&mut digits)), 0);
                if let Some(pos) = found {
                    list.remove(pos);
                }
                found.is_some()
            }
            Body::Table(table) => table.remove(elem.text(&mut digits)),
        }
    }

    /// Takes `count` members out at random (at most all), each selection as likely as any other, and calls `f` with each.
    ///
    /// Where few are to stay, those are chosen and make a new set, as Redis does it: the encoding may change.
    pub fn pop(
        &mut self,
        count: usize,
        rng: &mut Rng,
        rules: &SetRules,
        mut f: impl FnMut(Elem<'_>),
    ) {
        let stay = self.len().saturating_sub(count);
        if stay.saturating_mul(5) <= count {
            let kept = self.take_kept(stay, rng, rules);
            let popped = std::mem::replace(self, kept);
            popped.view().iter().for_each(f);
            self.left_behind += popped.left_behind;
            return;
        }
        if let Body::Listpack(list) = &mut self.body
            && count > 1
        {
            let mut rest = Listpack::new();
            let (mut left, mut wanted) = (list.len() as u64, count as u64);
            for elem in list.iter() {
                if rng.below(left) < wanted {
                    f(elem);
                    wanted -= 1;
                } else {
                    rest.push_back(elem);
                }
                left -= 1;
            }
            *list = rest;
            return;
        }
        let mut popped = Vec::new();
        for _ in 0..count {
            let mut digits = itoa::Buffer::new();
            let Some(elem) = self.view().random(rng) else {
                return;
            };
            f(elem);
            popped.clear();
            popped.extend_from_slice(elem.text(&mut digits));
            self.remove(Elem::Str(&popped));
        }
    }

    /// Moves `count` members, chosen at random, into a new set.
    fn take_kept(&mut self, count: usize, rng: &mut Rng, rules: &SetRules) -> Set {
        let mut kept = match self.body {
            Body::Intset(_) => Set::of_integers(),
            Body::Listpack(_) | Body::Table(_) => Set::of_texts(),
        };
        self.view()
            .select(count, rng, |elem| kept.add_new(elem, rules));
        kept.view().iter().for_each(|elem| {
            self.remove(elem);
        });
        kept
    }

    /// Makes it an intset if that can hold so many. All members are integers.
    pub fn make_intset(&mut self, rules: &SetRules) {
        if matches!(self.body, Body::Intset(_)) || self.len() > rules.intset_max() {
            return;
        }
        let mut ints = Intset::new();
        let all = self.view().iter().all(|elem| match elem.as_int() {
            Some(int) => ints.insert(int),
            None => false,
        });
        if all {
            self.body = Body::Intset(ints);
        }
    }

    /// Makes it a hash table if it has more members than its form may have, as one from a file can.
    pub fn settle(&mut self, rules: &SetRules) {
        let max = match self.body {
            Body::Intset(_) => rules.intset_entries,
            Body::Listpack(_) => rules.listpack_entries,
            Body::Table(_) => return,
        };
        if self.len() > max {
            self.table(rules);
        }
    }

    /// Makes it a hash table.
    fn table(&mut self, rules: &SetRules) {
        let mut table = Table::new(rules.hash_key);
        for elem in self.view().iter() {
            let mut digits = itoa::Buffer::new();
            let text = elem.text(&mut digits);
            table.add(text, || Member::new(text));
        }
        self.body = Body::Table(Box::new(table));
    }
}

/// Whether integers and one text more may be a listpack. They are judged by the longest of them, the first or the last.
fn ints_fit_listpack(ints: Ints<'_>, rules: &SetRules) -> bool {
    let longest = ints.range().map_or(0, |(min, max)| {
        Elem::Int(min).text_len().max(Elem::Int(max).text_len())
    });
    let bytes = ints.range().map_or(0, |(min, max)| {
        Elem::Int(min)
            .entry_bytes()
            .max(Elem::Int(max).entry_bytes())
    });
    ints.len() < rules.listpack_entries
        && longest <= rules.listpack_value
        && bytes.saturating_mul(ints.len()) < listpack::TOTAL_MAX
}

// --- A value of the keyspace -----------------------------------------------------------------------------------

impl Clone for Set {
    /// A clone is made for a writer whose set others own: what it copies stays behind with them.
    fn clone(&self) -> Set {
        Set {
            body: self.body.clone(),
            left_behind: self.left_behind + self.small_bytes(),
        }
    }
}

impl Set {
    /// Bytes of a small form.
    fn small_bytes(&self) -> usize {
        match &self.body {
            Body::Intset(ints) => ints.memory_bytes(),
            Body::Listpack(list) => list.memory_bytes(),
            Body::Table(_) => 0,
        }
    }
}

impl Container for Set {
    const PACKS: bool = true;
    type Ref<'a> = SetRef<'a>;

    fn into_heap(self) -> Heap {
        Heap::Set(Shared::new(self))
    }

    fn of(value: ValueRef<'_>) -> Option<Self::Ref<'_>> {
        match value {
            ValueRef::Set(it) => Some(it),
            _ => None,
        }
    }

    fn compact(&self) -> Option<Compact<'_>> {
        match &self.body {
            Body::Listpack(list) if list.total_bytes() <= COMPACT_MAX => {
                Some(Compact::SetListpack(list.bytes()))
            }
            Body::Intset(ints) if ints.ints().bytes().len() <= COMPACT_MAX => {
                Some(Compact::SetIntset(ints.ints().bytes()))
            }
            _ => None,
        }
    }

    fn unpacked(set: SetRef<'_>) -> Option<Set> {
        match set {
            SetRef::Listpack(pack) if pack.bytes().len() <= COMPACT_MAX => {
                Some(Set::from_listpack(Listpack::from_pack(pack)))
            }
            SetRef::Intset(ints) if ints.bytes().len() <= COMPACT_MAX => {
                Some(Set::from_intset(Intset::copy_of(ints)))
            }
            _ => None,
        }
    }

    fn is_empty(&self) -> bool {
        self.view().is_empty()
    }

    fn encoding(&self) -> Encoding {
        self.view().encoding()
    }

    fn free_effort(&self) -> usize {
        match &self.body {
            Body::Table(table) => table.len(),
            _ => 1,
        }
    }

    fn memory_bytes(&self) -> usize {
        let behind = match &self.body {
            Body::Table(table) => table.weight().bytes,
            _ => self.small_bytes(),
        };
        struct_bytes::<Self>() + behind
    }

    fn freed_by_drop(&self) -> usize {
        let behind = match &self.body {
            Body::Table(table) => table.weight().freed_by_drop,
            _ => self.small_bytes(),
        };
        struct_bytes::<Self>() + behind
    }

    fn defrag(&mut self, step: Step, mover: &mut Mover<'_>) -> Option<Step> {
        match &mut self.body {
            Body::Intset(ints) => ints.defrag(mover),
            Body::Listpack(pack) => pack.defrag(mover),
            Body::Table(table) => return Table::defrag(table, step, mover, Member::defrag),
        }
        None
    }

    fn take_left_behind(&mut self) -> usize {
        let of_table = match &mut self.body {
            Body::Table(table) => table.take_left_behind(),
            _ => 0,
        };
        of_table + std::mem::take(&mut self.left_behind)
    }
}

impl Default for Set {
    fn default() -> Set {
        Set::of_integers()
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

impl fmt::Debug for SetRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const RULES: SetRules = SetRules {
        intset_entries: 8,
        listpack_entries: 6,
        listpack_value: 5,
        hash_key: HashKey::new(1, 2),
    };

    fn set_of(members: &[&str], rules: &SetRules) -> Set {
        let mut set = Set::for_members(members[0].as_bytes(), members.len(), rules);
        for member in members {
            set.add(Elem::Str(member.as_bytes()), rules);
        }
        set
    }

    fn content(set: &Set) -> BTreeSet<Vec<u8>> {
        set.view().iter().map(Elem::to_vec).collect()
    }

    #[test]
    fn the_encoding_follows_redis() {
        let of = |members: &[&str]| set_of(members, &RULES).encoding().name();
        assert_eq!(of(&["1", "2"]), "intset");
        assert_eq!(of(&["1", "a"]), "listpack");
        assert_eq!(of(&["a", "1"]), "listpack");
        assert_eq!(of(&["1", "abcdef"]), "hashtable");
        assert_eq!(
            of(&["100000", "a"]),
            "hashtable",
            "an integer too long for a listpack"
        );
        assert_eq!(of(&["-10000", "a"]), "hashtable", "the sign counts");
        assert_eq!(of(&["1", "2", "3", "4", "5", "6", "7", "8"]), "intset");
        assert_eq!(
            of(&["1", "2", "3", "4", "5", "6", "7", "8", "9"]),
            "hashtable"
        );
        assert_eq!(of(&["a", "b", "c", "d", "e", "f"]), "listpack");
        assert_eq!(of(&["1", "b", "c", "d", "e", "f", "g"]), "hashtable");
        let mut set = set_of(&["1", "2"], &RULES);
        set.prepare(9, &RULES);
        assert_eq!(set.encoding(), Encoding::Hashtable);
        set.make_intset(&RULES);
        assert_eq!(set.encoding(), Encoding::Intset);
    }

    proptest! {
        /// Sets that are made at once have the form, and the members, that adding one after the other gives.
        #[test]
        fn made_at_once_or_one_by_one(
            first in vec("[0-9]{1,6}|[a-c]{1,6}", 0..14),
            later in vec("[0-9]{1,6}", 0..14),
            gone in 0usize..14,
        ) {
            let one_by_one = |members: &mut dyn Iterator<Item = &String>| {
                let mut set = Set::of_integers();
                members.for_each(|m| _ = set.add(Elem::Str(m.as_bytes()), &RULES));
                set
            };
            let told = |set: &Set| (set.encoding(), content(set));
            let mut source = one_by_one(&mut first.iter());
            let mut gathered = Set::gathered(source.view(), &RULES);
            prop_assert_eq!(told(&gathered), told(&source));
            let made = Set::of_integers().with_new(source.view().iter(), &RULES);
            prop_assert_eq!(told(&made), told(&source));
            let of_texts = Set::of_texts().with_new(source.view().iter(), &RULES);
            let mut expected = Set::of_texts();
            source.view().iter().for_each(|elem| _ = expected.add(elem, &RULES));
            prop_assert_eq!(told(&of_texts), told(&expected));
            // What is written to one of them, the other does not see.
            let before = told(&source);
            later.iter().for_each(|m| _ = gathered.add(Elem::Str(m.as_bytes()), &RULES));
            prop_assert_eq!(told(&source), before);
            prop_assert_eq!(told(&gathered), told(&one_by_one(&mut first.iter().chain(&later))));
            let before = told(&gathered);
            first.iter().take(gone).for_each(|m| _ = source.remove(Elem::Str(m.as_bytes())));
            prop_assert_eq!(told(&gathered), before);
            // A table that has become small is no reason to stay one.
            let kept = one_by_one(&mut first.iter().filter(|m| source.view().contains(Elem::Str(m.as_bytes()))));
            prop_assert_eq!(told(&Set::gathered(source.view(), &RULES)), told(&kept));
        }
    }

    #[test]
    fn draws_are_fair_in_every_form() {
        let rules = SetRules {
            intset_entries: 200,
            ..RULES
        };
        let ints: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        let mut rng = Rng::new(3);
        let limits = [(200, 0), (0, 200), (0, 0)];
        for (intset_entries, listpack_entries) in limits {
            let rules = SetRules {
                intset_entries,
                listpack_entries,
                ..rules
            };
            let set = set_of(&ints.iter().map(String::as_str).collect::<Vec<_>>(), &rules);
            let mut counts = [0u32; 100];
            let mut tally = |elem: Elem<'_>| {
                let int = elem.as_int().and_then(|int| usize::try_from(int).ok());
                counts[int.unwrap()] += 1;
            };
            for _ in 0..500 {
                tally(set.view().random(&mut rng).unwrap());
                set.view().draw(2, &mut rng, &mut tally);
                set.view().select(7, &mut rng, &mut tally);
                set.view().select(50, &mut rng, &mut tally);
                let mut popped = set.clone();
                popped.pop(30, &mut rng, &rules, &mut tally);
                popped = set.clone();
                popped.pop(90, &mut rng, &rules, &mut tally);
            }
            let mean = 500.0 * 180.0 / 100.0;
            let chi_square: f64 = counts
                .iter()
                .map(|&n| (f64::from(n) - mean).powi(2) / mean)
                .sum();
            // 99 degrees of freedom: more than 160 comes once in ten thousand times.
            assert!(chi_square < 160.0, "{chi_square} with {rules:?}");
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add(Vec<u8>),
        Remove(Vec<u8>),
        Pop(usize),
        Rules(usize, usize, usize),
        Snapshot,
        Forget,
    }

    fn members() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            3 => (-30..30i64).prop_map(|v| v.to_string().into_bytes()),
            1 => any::<i64>().prop_map(|v| v.to_string().into_bytes()),
            3 => "[a-c]{0,3}".prop_map(String::into_bytes),
            1 => (0..400u32).prop_map(|v| format!("member:{v}").into_bytes()),
        ]
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            12 => members().prop_map(Step::Add),
            6 => members().prop_map(Step::Remove),
            1 => (0..12usize).prop_map(Step::Pop),
            1 => (0..20usize, 0..20usize, 0..12usize).prop_map(|(a, b, c)| Step::Rules(a, b, c)),
            1 => Just(Step::Snapshot),
            1 => Just(Step::Forget),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_model_while_snapshots_stay(steps in vec(steps(), 1..300), seed in any::<u64>()) {
            let (mut set, mut model) = (Set::default(), BTreeSet::new());
            let (mut rules, mut rng) = (RULES, Rng::new(seed));
            let mut snapshots: Vec<(Set, BTreeSet<Vec<u8>>)> = Vec::new();
            for step in steps {
                match step {
                    Step::Add(m) => {
                        prop_assert_eq!(set.add(Elem::Str(&m), &rules), model.insert(m.clone()));
                        prop_assert!(set.view().contains(Elem::Str(&m)));
                    }
                    Step::Remove(m) => {
                        prop_assert_eq!(set.remove(Elem::Str(&m)), model.remove(&m));
                        prop_assert!(!set.view().contains(Elem::Str(&m)));
                    }
                    Step::Pop(n) => {
                        let n = n.min(model.len());
                        let mut popped = Vec::new();
                        set.pop(n, &mut rng, &rules, |elem| popped.push(elem.to_vec()));
                        prop_assert_eq!(popped.len(), n);
                        prop_assert!(popped.iter().all(|m| model.remove(m)));
                    }
                    Step::Rules(intset_entries, listpack_entries, listpack_value) => {
                        rules = SetRules { intset_entries, listpack_entries, listpack_value, ..RULES };
                    }
                    Step::Snapshot => snapshots.push((set.clone(), model.clone())),
                    Step::Forget => snapshots.clear(),
                }
                prop_assert_eq!(set.len(), model.len());
            }
            prop_assert_eq!(&content(&set), &model);
            let mut scanned = BTreeSet::new();
            let mut cursor = 0;
            loop {
                cursor = set.view().scan(cursor, 3, |elem| {
                    scanned.insert(elem.to_vec());
                });
                if cursor == 0 {
                    break;
                }
            }
            prop_assert_eq!(&scanned, &model);
            for (set, model) in &snapshots {
                prop_assert_eq!(&content(set), model);
            }
        }
    }

    #[test]
    fn a_member_takes_no_more_than_the_design_says() {
        let mut set = Set::default();
        for i in 0..100_000 {
            set.add(Elem::Str(format!("member:{i:011}").as_bytes()), &RULES);
        }
        let exact = set.view().as_table().map_or(0, |table| {
            table.dict().memory_bytes() + table.iter().map(Member::memory_bytes).sum::<usize>()
        });
        assert!(exact <= 44 * 100_000, "{exact} bytes");
        let judged = set.memory_bytes();
        assert!(judged.abs_diff(exact) < exact / 20, "{judged} for {exact}");
        assert!(set.freed_by_drop().abs_diff(judged) < 100);
        let mut writer = set.clone();
        assert!(set.freed_by_drop() < 200, "all is shared but the structs");
        writer.remove(Elem::Str(b"member:00000000017"));
        let left = writer.take_left_behind();
        assert!(
            (1000..20_000).contains(&left),
            "page, segment and member: {left}"
        );
        assert_eq!(writer.take_left_behind(), 0);
    }
}
