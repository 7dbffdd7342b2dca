//! The face of a hash value.
//!
//! A small hash is one listpack, fields and values by turns, searched from its start; a large one a dict whose records are
//! entries like those of the keyspace: field and value in one allocation, a long value as chunks. Redis's rules decide
//! which (`hash-max-listpack-entries`, `hash-max-listpack-value`), because `OBJECT ENCODING` shows it; a hash never goes
//! back. The limits come in from outside ([`HashRules`]), since they may change between two commands.

use std::fmt;

use super::entry::Entry;
use super::string::Str;
use super::table::{Table, draw, left_behind, select, struct_bytes};
use super::value::{COMPACT_MAX, Compact, Container, Encoding, Heap, Value, ValueRef};
use crate::base::rng::Rng;
use crate::ds::cow::Shared;
use crate::ds::defrag::{Mover, Step};
use crate::ds::dict::{self, HashKey};
use crate::ds::listpack::{self, Elem, Listpack, Needle, Pack, Pos};

/// What decides over a hash's form.
#[derive(Clone, Copy, Debug)]
pub struct HashRules {
    /// `hash-max-listpack-entries`
    pub listpack_entries: usize,
    /// `hash-max-listpack-value`: bytes of a field or a value.
    pub listpack_value: usize,
    /// For the dict of a large one.
    pub hash_key: HashKey,
}

/// A hash. See the head of the file.
pub struct Hash {
    body: Body,
    /// Bytes of listpacks that were copied because others own them.
    left_behind: usize,
}

#[derive(Clone)]
enum Body {
    Listpack(Listpack),
    Table(Box<Table<Entry>>),
}

/// A hash to be read, wherever it lies.
#[derive(Clone, Copy)]
pub enum HashRef<'a> {
    Listpack(Pack<'a>),
    Table(&'a Table<Entry>),
}

/// A field and its value.
pub type Pair<'a> = (Elem<'a>, Str<'a>);

fn str_of(elem: Elem<'_>) -> Str<'_> {
    match elem {
        Elem::Int(int) => Str::Int(int),
        Elem::Str(text) => Str::Text(text),
    }
}

fn pair_of(entry: &Entry) -> Pair<'_> {
    // Every value that was put in is a string.
    let value = entry.as_str().unwrap_or(Str::Text(b""));
    (Elem::Str(entry.key()), value)
}

/// The place of a field in a listpack.
fn find(list: Pack<'_>, field: &[u8]) -> Option<Pos> {
    list.find(list.first(), Needle::new(field), 1)
}

// --- Reading ---------------------------------------------------------------------------------------------------

impl<'a> HashRef<'a> {
    /// The number of fields.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            HashRef::Listpack(list) => list.len() / 2,
            HashRef::Table(table) => table.len(),
        }
    }

    /// True if there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The value of a field.
    #[inline]
    pub fn get(self, field: &[u8]) -> Option<Str<'a>> {
        match self {
            HashRef::Listpack(list) => {
                let value = list.next(find(list, field)?)?;
                list.get(value).map(str_of)
            }
            HashRef::Table(table) => table.get(field).map(|entry| pair_of(entry).1),
        }
    }

    /// The dict of a large one.
    pub fn as_table(self) -> Option<&'a Table<Entry>> {
        match self {
            HashRef::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The listpack of a small one, if it is one.
    pub fn listpack(self) -> Option<Pack<'a>> {
        match self {
            HashRef::Listpack(pack) => Some(pack),
            _ => None,
        }
    }

    /// The encoding, by Redis's rules.
    pub fn encoding(self) -> Encoding {
        match self {
            HashRef::Listpack(_) => Encoding::Listpack,
            HashRef::Table(_) => Encoding::Hashtable,
        }
    }

    /// All fields with their values: in order of insertion while it is a listpack, in none afterwards.
    pub fn iter(self) -> HashIter<'a> {
        match self {
            HashRef::Listpack(list) => HashIter::Listpack(list.iter()),
            HashRef::Table(table) => HashIter::Table(table.iter()),
        }
    }

    /// A field with its value, each with the same chance; `None` of an empty hash.
    pub fn random(self, rng: &mut Rng) -> Option<Pair<'a>> {
        match self {
            _ if self.is_empty() => None,
            HashRef::Listpack(list) => {
                let pos = list.seek(2 * rng.index(self.len()) as i64)?;
                let value = list.get(list.next(pos)?)?;
                Some((list.get(pos)?, str_of(value)))
            }
            HashRef::Table(table) => table.random(|n| rng.below(n)).map(pair_of),
        }
    }

    /// Calls `f` with `count` fields drawn one by one from all of them, so that one may come several times. The hash is
    /// not empty.
    pub fn draw(self, count: usize, rng: &mut Rng, mut f: impl FnMut(Pair<'a>)) {
        if let HashRef::Listpack(_) = self
            && count > 1
        {
            return draw(self.iter(), count, rng, f);
        }
        (0..count).map_while(|_| self.random(rng)).for_each(&mut f);
    }

    /// Calls `f` with `count` fields, none twice, each selection as likely as any other. At most all of them.
    pub fn select(self, count: usize, rng: &mut Rng, mut f: impl FnMut(Pair<'a>)) {
        match self {
            HashRef::Table(table) => table.select(count, rng, |entry| f(pair_of(entry))),
            small => select(small.iter(), small.len(), count, |n| rng.below(n), f),
        }
    }

    /// Calls `f` with about `count` fields from a cursor on, and gives the cursor to go on with: 0 at the end. A small
    /// hash comes whole.
    pub fn scan(self, cursor: u64, count: usize, mut f: impl FnMut(Pair<'_>)) -> u64 {
        match self {
            HashRef::Table(table) => table.scan(cursor, count, |entry| f(pair_of(entry))),
            small => {
                small.iter().for_each(f);
                0
            }
        }
    }
}

/// The fields of a hash, with their values.
pub enum HashIter<'a> {
    Listpack(listpack::Iter<'a>),
    Table(dict::Iter<'a, Entry>),
}

impl<'a> Iterator for HashIter<'a> {
    type Item = Pair<'a>;
    #[inline]
    fn next(&mut self) -> Option<Pair<'a>> {
        match self {
            HashIter::Listpack(iter) => Some((iter.next()?, str_of(iter.next()?))),
            HashIter::Table(iter) => iter.next().map(pair_of),
        }
    }
}

// --- Changing --------------------------------------------------------------------------------------------------

impl Hash {
    /// An empty hash.
    pub fn new() -> Hash {
        Hash::from_listpack(Listpack::new())
    }

    /// A listpack as it is, from a file: fields and values by turns, no field twice.
    pub fn from_listpack(list: Listpack) -> Hash {
        Hash {
            body: Body::Listpack(list),
            left_behind: 0,
        }
    }

    /// A large hash, of the entries of its fields.
    pub fn from_table(table: Table<Entry>) -> Hash {
        Hash {
            body: Body::Table(Box::new(table)),
            left_behind: 0,
        }
    }

    /// The hash, to be read.
    #[inline]
    pub fn view(&self) -> HashRef<'_> {
        match &self.body {
            Body::Listpack(list) => HashRef::Listpack(list.pack()),
            Body::Table(table) => HashRef::Table(table),
        }
    }

    /// Makes it a hash table if these fields and values, by turns, would make it one: so many that the hash would become
    /// large (some may be there already, but that is not looked at), or one of them too long.
    #[inline]
    pub fn prepare(&mut self, args: &[&[u8]], rules: &HashRules) {
        let Body::Listpack(list) = &self.body else {
            return;
        };
        let bytes: usize = args.iter().map(|arg| arg.len()).sum();
        if args.len() / 2 > rules.listpack_entries
            || args.iter().any(|arg| arg.len() > rules.listpack_value)
            || !list.has_room_for(bytes)
        {
            self.table(rules);
        }
    }

    /// Sets a field, `text` being its value's. True if the field is new.
    #[inline]
    pub fn set(&mut self, field: &[u8], text: &[u8], rules: &HashRules) -> bool {
        self.set_value(field, text, || Value::from_text(text), rules)
    }

    /// As [`set`](Self::set), where a large hash stores what `value` gives: the same text, perhaps in a buffer of its own.
    pub fn set_value<'v>(
        &mut self,
        field: &[u8],
        text: &[u8],
        value: impl FnOnce() -> Value<'v>,
        rules: &HashRules,
    ) -> bool {
        if let Body::Listpack(list) = &mut self.body {
            if field.len() <= rules.listpack_value && text.len() <= rules.listpack_value {
                let created = set_in_list(list, field, text);
                if list.len() / 2 > rules.listpack_entries {
                    self.table(rules);
                }
                return created;
            }
            self.table(rules);
        }
        let Body::Table(table) = &mut self.body else {
            return false;
        };
        match table.entry(field) {
            (dict::Entry::Occupied(found), left) => {
                if let Some(old) = found.into_mut().set_value(value()) {
                    *left += left_behind(&old);
                }
                false
            }
            (dict::Entry::Vacant(place), _) => {
                place.insert(Entry::new(field, value(), None, 0));
                true
            }
        }
    }

    /// Takes a field out; false if it was not there.
    #[inline]
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.body {
            Body::Listpack(list) => {
                let found = find(list.pack(), field);
                if let Some(pos) = found {
                    list.remove_from(pos, 2);
                }
                found.is_some()
            }
            Body::Table(table) => table.remove(field),
        }
    }

    /// An empty one that is a hash table already.
    pub fn of_table(rules: &HashRules) -> Hash {
        Hash::from_table(Table::new(rules.hash_key))
    }

    /// Makes it a hash table.
    pub fn table(&mut self, rules: &HashRules) {
        let mut table = Table::new(rules.hash_key);
        for (field, value) in self.view().iter() {
            let mut digits = itoa::Buffer::new();
            let field = field.text(&mut digits);
            table.add(field, || {
                let value = match value {
                    Str::Int(int) => Value::Int(int),
                    Str::Text(text) => Value::Bytes(text),
                    Str::Big(big) => Value::Whole(big.to_vec().into()),
                };
                Entry::new(field, value, None, 0)
            });
        }
        self.body = Body::Table(Box::new(table));
    }
}

/// Sets a field of a listpack; true if it is new.
fn set_in_list(list: &mut Listpack, field: &[u8], text: &[u8]) -> bool {
    let value = find(list.pack(), field).and_then(|pos| list.next(pos));
    match value {
        Some(pos) => list.replace(pos, Elem::Str(text)),
        None => list.push_back_all(&[Elem::Str(field), Elem::Str(text)]),
    }
    value.is_none()
}

// --- A value of the keyspace -----------------------------------------------------------------------------------

impl Hash {
    /// Bytes of a small form.
    fn small_bytes(&self) -> usize {
        match &self.body {
            Body::Listpack(list) => list.memory_bytes(),
            Body::Table(_) => 0,
        }
    }
}

impl Clone for Hash {
    /// A clone is made for a writer whose hash others own: what it copies stays behind with them.
    fn clone(&self) -> Hash {
        Hash {
            body: self.body.clone(),
            left_behind: self.left_behind + self.small_bytes(),
        }
    }
}

impl Container for Hash {
    const PACKS: bool = true;
    type Ref<'a> = HashRef<'a>;

    fn into_heap(self) -> Heap {
        Heap::Hash(Shared::new(self))
    }

    fn of(value: ValueRef<'_>) -> Option<Self::Ref<'_>> {
        match value {
            ValueRef::Hash(it) => Some(it),
            _ => None,
        }
    }

    fn compact(&self) -> Option<Compact<'_>> {
        match &self.body {
            Body::Listpack(list) if list.total_bytes() <= COMPACT_MAX => {
                Some(Compact::HashListpack(list.bytes()))
            }
            _ => None,
        }
    }

    fn unpacked(hash: HashRef<'_>) -> Option<Hash> {
        match hash {
            HashRef::Listpack(pack) if pack.bytes().len() <= COMPACT_MAX => {
                Some(Hash::from_listpack(Listpack::from_pack(pack)))
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
            Body::Listpack(_) => 1,
        }
    }

    fn memory_bytes(&self) -> usize {
        let behind = match &self.body {
            Body::Table(table) => table.weight().bytes,
            Body::Listpack(list) => list.memory_bytes(),
        };
        struct_bytes::<Self>() + behind
    }

    fn freed_by_drop(&self) -> usize {
        let behind = match &self.body {
            Body::Table(table) => table.weight().freed_by_drop,
            Body::Listpack(list) => list.memory_bytes(),
        };
        struct_bytes::<Self>() + behind
    }

    fn defrag(&mut self, step: Step, mover: &mut Mover<'_>) -> Option<Step> {
        match &mut self.body {
            Body::Listpack(pack) => {
                pack.defrag(mover);
                None
            }
            Body::Table(table) => Table::defrag(table, step, mover, Entry::defrag),
        }
    }

    fn take_left_behind(&mut self) -> usize {
        let of_table = match &mut self.body {
            Body::Table(table) => table.take_left_behind(),
            Body::Listpack(_) => 0,
        };
        of_table + std::mem::take(&mut self.left_behind)
    }
}

impl Default for Hash {
    fn default() -> Hash {
        Hash::new()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

impl fmt::Debug for HashRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const RULES: HashRules = HashRules {
        listpack_entries: 4,
        listpack_value: 8,
        hash_key: HashKey::new(1, 2),
    };

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    fn content(hash: &Hash) -> Model {
        hash.view()
            .iter()
            .map(|(field, value)| (field.to_vec(), value.to_vec()))
            .collect()
    }

    #[test]
    fn the_encoding_follows_redis() {
        let mut hash = Hash::new();
        for field in [&b"a"[..], b"b", b"c", b"4"] {
            assert!(hash.set(field, b"12345678", &RULES));
            assert!(!hash.set(field, b"87654321", &RULES));
        }
        assert_eq!(hash.encoding(), Encoding::Listpack);
        let mut other = hash.clone();
        other.set(b"e", b"", &RULES);
        assert_eq!(other.encoding(), Encoding::Hashtable);
        other = hash.clone();
        other.prepare(&[b"a", b"123456789"], &RULES);
        assert_eq!(other.encoding(), Encoding::Hashtable);
        other = hash.clone();
        other.set(b"123456789", b"", &RULES);
        assert_eq!(other.encoding(), Encoding::Hashtable);
        hash.prepare(&[&b"a"[..]; 10], &RULES);
        assert_eq!(hash.encoding(), Encoding::Hashtable);
        assert_eq!(hash.view().get(b"4").unwrap().to_vec(), b"87654321");
    }

    #[test]
    fn draws_are_fair_in_both_forms() {
        let mut rng = Rng::new(5);
        for listpack_entries in [100, 10] {
            let rules = HashRules {
                listpack_entries,
                ..RULES
            };
            let mut hash = Hash::new();
            for i in 0..100 {
                let text = i.to_string();
                hash.set(text.as_bytes(), text.as_bytes(), &rules);
            }
            let mut counts = [0u32; 100];
            let mut tally = |(field, value): Pair<'_>| {
                let int = field.as_int();
                assert_eq!(int, value.parse_int());
                counts[int.and_then(|int| usize::try_from(int).ok()).unwrap()] += 1;
            };
            for _ in 0..500 {
                tally(hash.view().random(&mut rng).unwrap());
                hash.view().draw(9, &mut rng, &mut tally);
                hash.view().select(10, &mut rng, &mut tally);
                hash.view().select(60, &mut rng, &mut tally);
            }
            let mean = 500.0 * 80.0 / 100.0;
            let chi_square: f64 = counts
                .iter()
                .map(|&n| (f64::from(n) - mean).powi(2) / mean)
                .sum();
            // 99 degrees of freedom: more than 160 comes once in ten thousand times.
            assert!(chi_square < 160.0, "{chi_square} at {listpack_entries}");
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Set(Vec<u8>, Vec<u8>),
        Remove(Vec<u8>),
        Rules(usize, usize),
        Snapshot,
        Forget,
    }

    fn fields() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            2 => (-10..10i64).prop_map(|v| v.to_string().into_bytes()),
            2 => "[a-c]{0,2}".prop_map(String::into_bytes),
            1 => (0..400u32).prop_map(|v| format!("f:{v}").into_bytes()),
        ]
    }

    fn values() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            2 => any::<i64>().prop_map(|v| v.to_string().into_bytes()),
            4 => vec(any::<u8>(), 0..20),
            1 => vec(any::<u8>(), 4090..4100),
        ]
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            12 => (fields(), values()).prop_map(|(f, v)| Step::Set(f, v)),
            5 => fields().prop_map(Step::Remove),
            1 => (0..20usize, 0..20usize).prop_map(|(a, b)| Step::Rules(a, b)),
            1 => Just(Step::Snapshot),
            1 => Just(Step::Forget),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_model_while_snapshots_stay(steps in vec(steps(), 1..200)) {
            let (mut hash, mut model, mut rules) = (Hash::new(), Model::new(), RULES);
            let mut snapshots: Vec<(Hash, Model)> = Vec::new();
            for step in steps {
                match step {
                    Step::Set(f, v) => {
                        let created = hash.set(&f, &v, &rules);
                        prop_assert_eq!(hash.view().get(&f).map(Str::to_vec), Some(v.clone()));
                        prop_assert_eq!(created, model.insert(f, v).is_none());
                    }
                    Step::Remove(f) => {
                        prop_assert_eq!(hash.remove(&f), model.remove(&f).is_some());
                        prop_assert!(hash.view().get(&f).is_none());
                    }
                    Step::Rules(listpack_entries, listpack_value) => {
                        rules = HashRules { listpack_entries, listpack_value, ..RULES };
                    }
                    Step::Snapshot => snapshots.push((hash.clone(), model.clone())),
                    Step::Forget => snapshots.clear(),
                }
                prop_assert_eq!(hash.view().len(), model.len());
            }
            prop_assert_eq!(&content(&hash), &model);
            let (mut scanned, mut cursor) = (Model::new(), 0);
            loop {
                cursor = hash.view().scan(cursor, 3, |(field, value)| {
                    scanned.insert(field.to_vec(), value.to_vec());
                });
                if cursor == 0 {
                    break;
                }
            }
            prop_assert_eq!(&scanned, &model);
            for (hash, model) in &snapshots {
                prop_assert_eq!(&content(hash), model);
            }
        }
    }

    #[test]
    fn a_field_takes_no_more_than_the_design_says() {
        let mut hash = Hash::new();
        for i in 0..100_000 {
            hash.set(
                format!("member:{i:011}").as_bytes(),
                b"sixteen bytes ..",
                &RULES,
            );
        }
        let judged = hash.memory_bytes();
        assert!(judged <= 62 * 100_000, "{judged} bytes");
    }
}
