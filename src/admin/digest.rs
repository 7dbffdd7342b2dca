//! Digests of data: DEBUG DIGEST and DIGEST-VALUE.
//!
//! Two servers with the same data have the same digest, however the data lie in memory: tests and people
//! compare a master with its replica, a server before with one after a restart, Redis with this. So the
//! recipe is Redis's own, to the byte. It has two steps over SHA-1: what has no order is *xored* in
//!
//! ```text
//! digest = digest ^ sha1(data)
//! ```
//! and what has an order is *mixed* in
//!
//! ```text
//! digest = sha1(digest ^ sha1(data))
//! ```

use std::fmt;
use std::ops::ControlFlow;

use sha1::{Digest as _, Sha1};

use crate::base::double::format_shortest;
use crate::db::keyspace::Databases;
use crate::ds::listpack::Elem;
use crate::ds::stream::StreamId;
use crate::object::list::{End, Item};
use crate::object::{Entry, Str, Type, ValueRef};

/// A digest under way. It begins with zeros.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Digest([u8; 20]);

impl Digest {
    fn xor_hash(&mut self, hash: Sha1) {
        for (byte, other) in self.0.iter_mut().zip(hash.finalize()) {
            *byte ^= other;
        }
    }

    fn mix_hash(&mut self, hash: Sha1) {
        self.xor_hash(hash);
        self.0 = Sha1::digest(self.0).into();
    }

    /// Adds data in whatever order they come.
    fn xor(&mut self, data: &[u8]) {
        self.xor_hash(Sha1::new_with_prefix(data));
    }

    /// Adds data at their place.
    fn mix(&mut self, data: &[u8]) {
        self.mix_hash(Sha1::new_with_prefix(data));
    }

    fn mix_elem(&mut self, elem: Elem<'_>) {
        self.mix(elem.text(&mut itoa::Buffer::new()));
    }

    fn mix_str(&mut self, text: Str<'_>) {
        let mut hash = Sha1::new();
        text.for_each_slice(|slice| hash.update(slice));
        self.mix_hash(hash);
    }

    /// Adds a value with its type, and that it will expire (not when: clocks differ).
    fn value(&mut self, entry: &Entry) {
        self.mix(&type_number(entry.type_of()).to_be_bytes());
        match entry.value() {
            ValueRef::Str(text) => self.mix_str(text),
            ValueRef::List(list) => list.walk(0, End::Tail, |item| {
                match item {
                    Item::Elem(elem) => self.mix_elem(elem),
                    Item::Whole(text) => self.mix(text),
                }
                ControlFlow::Continue(())
            }),
            ValueRef::Set(set) => {
                for member in set.iter() {
                    self.xor(member.text(&mut itoa::Buffer::new()));
                }
            }
            ValueRef::Hash(hash) => {
                for (field, value) in hash.iter() {
                    let mut pair = Digest::default();
                    pair.mix_elem(field);
                    pair.mix_str(value);
                    self.xor(&pair.0);
                }
            }
            ValueRef::Zset(zset) => {
                for (member, score) in zset.iter() {
                    let mut pair = Digest::default();
                    pair.mix_elem(member);
                    pair.mix(format_shortest(score).as_bytes());
                    self.xor(&pair.0);
                }
            }
            ValueRef::Stream(stream) => {
                for entry in stream.range(StreamId::MIN, StreamId::MAX) {
                    self.mix(format!("{}.{}", entry.id.ms, entry.id.seq).as_bytes());
                    for (field, value) in entry.pairs() {
                        self.mix_elem(field);
                        self.mix_elem(value);
                    }
                }
            }
        }
        if entry.expiry_ms().is_some() {
            self.xor(b"!!expire!!");
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The number that Redis has for a type.
fn type_number(t: Type) -> u32 {
    match t {
        Type::String => 0,
        Type::List => 1,
        Type::Set => 2,
        Type::Zset => 3,
        Type::Hash => 4,
        Type::Stream => 6,
    }
}

/// The digest of a key's value; zeros for a key that is not there.
pub fn of_value(entry: Option<&Entry>) -> Digest {
    let mut digest = Digest::default();
    if let Some(entry) = entry {
        digest.value(entry);
    }
    digest
}

/// The digest of all keys of all databases, in whatever order they lie.
pub fn of_databases(dbs: &Databases) -> Digest {
    let mut all = Digest::default();
    for (index, db) in dbs.iter().enumerate().filter(|(_, db)| !db.is_empty()) {
        all.mix(&(index as u32).to_be_bytes());
        for entry in db.iter() {
            let mut one = Digest::default();
            one.mix(entry.key());
            one.value(entry);
            all.xor(&one.0);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ds::dict::HashKey;
    use crate::object::Value;

    fn digest(value: Value<'_>, expiry_ms: Option<u64>) -> String {
        of_value(Some(&Entry::new(b"key", value, expiry_ms, 0))).to_string()
    }

    /// What Redis 7.2.6 answers to DEBUG DIGEST-VALUE.
    #[test]
    fn values_have_redis_digests() {
        assert_eq!(of_value(None).to_string(), "0".repeat(40));
        let known = [
            ("hello", None, "36b23a1456b2dce2c3ed252c456761301dba8060"),
            ("hello", Some(9), "d037c4eb8a8b36b602fbced4000daeab0714c1e3"),
            ("10", None, "311acb99ec6c2ffc303176a787ecb8f8d91586ec"),
            (
                "99999999999",
                None,
                "56dce25a4328f348af203f05beffb04acb5e0f91",
            ),
        ];
        for (text, expiry_ms, hex) in known {
            let value = Value::from_text(text.as_bytes());
            assert_eq!(digest(value, expiry_ms), hex, "{text}");
        }
        let long = vec![b'a'; 20_000];
        let hex = "c2d4048940b1045c281752a4c9fd126b62078222";
        assert_eq!(digest(Value::Bytes(&long), None), hex);
    }

    /// What it answers to DEBUG DIGEST: with nothing, with `SET k hello EX 1000`, and with that and
    /// `SET kk 12345` in database 3.
    #[test]
    fn databases_have_redis_digests() {
        let mut dbs = Databases::new(16, HashKey::new(1, 2));
        assert_eq!(of_databases(&dbs).to_string(), "0".repeat(40));
        let mut put = |index, entry: Entry| {
            let hash = dbs.hash(entry.key());
            dbs.db_mut(index).insert(hash, entry);
            of_databases(&dbs).to_string()
        };
        let one = put(0, Entry::new(b"k", Value::Bytes(b"hello"), Some(9), 0));
        assert_eq!(one, "95d5f52bc5471efa1f0fdce29d0364c17b210e0c");
        let two = put(3, Entry::new(b"kk", Value::Int(12345), None, 0));
        assert_eq!(two, "be718d7b29927d3c9ef4b9dd3fda3f5f8f0b47de");
    }
}
