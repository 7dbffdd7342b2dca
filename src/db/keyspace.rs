//! stub
use crate::ds::dict::{Dict, Entry as Place, HashKey, RecordMut};
use crate::object::{Entry, Type, Value};

pub enum Live<'a> {
    Found(&'a Entry),
    Expired(Entry),
    Missing,
}
#[derive(Clone, Copy)]
pub enum Expiry {
    Clear,
    Keep,
    At(u64),
}
pub struct Stored {
    pub created: bool,
    pub displaced: Option<Entry>,
}

pub struct Keyspace {
    dict: Dict<Entry>,
}
impl Keyspace {
    #[inline]
    pub fn find_live(&mut self, hash: u64, key: &[u8], now_ms: u64) -> Live<'_> {
        match self.dict.entry(hash, key) {
            Place::Vacant(_) => Live::Missing,
            Place::Occupied(o) if o.get().is_expired(now_ms) => Live::Expired(o.remove()),
            Place::Occupied(o) => Live::Found(o.into_ref()),
        }
    }
    #[inline]
    pub fn set(
        &mut self,
        hash: u64,
        key: &[u8],
        value: Value<'_>,
        ttl: Expiry,
        access: u32,
    ) -> Stored {
        match self.dict.entry(hash, key) {
            Place::Vacant(v) => {
                let at = match ttl {
                    Expiry::At(ms) => Some(ms),
                    _ => None,
                };
                v.insert(Entry::new(key, value, at, access));
                Stored {
                    created: true,
                    displaced: None,
                }
            }
            Place::Occupied(o) => {
                let mut e = o.into_mut();
                let at = match ttl {
                    Expiry::At(ms) => Some(ms),
                    Expiry::Clear => None,
                    Expiry::Keep => e.expiry_ms(),
                };
                let displaced = e.set(value, at);
                e.set_access(access);
                Stored {
                    created: false,
                    displaced,
                }
            }
        }
    }
    pub fn insert(&mut self, hash: u64, entry: Entry) -> Option<Entry> {
        self.dict.insert(hash, entry)
    }
    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        self.dict.remove(hash, key)
    }
    pub fn entry_mut(&mut self, hash: u64, key: &[u8]) -> Option<RecordMut<'_, Entry>> {
        self.dict.find_mut(hash, key)
    }
    pub fn set_expiry(&mut self, hash: u64, key: &[u8], at: Option<u64>) -> Option<Option<Entry>> {
        Some(self.dict.find_mut(hash, key)?.set_expiry(at))
    }
    pub fn is_empty(&self) -> bool {
        self.dict.is_empty()
    }
    pub fn len(&self) -> usize {
        self.dict.len()
    }
    pub fn expiring_len(&self) -> usize {
        self.dict.expiring_len()
    }
    pub fn slots(&self) -> usize {
        0
    }
    pub fn prefetch(&self, hashes: &[u64]) {
        self.dict.prefetch(hashes)
    }
}
pub struct Databases {
    dbs: Vec<Keyspace>,
    key: HashKey,
}
impl Databases {
    pub fn new(n: usize, key: HashKey) -> Self {
        Databases {
            dbs: (0..n)
                .map(|_| Keyspace {
                    dict: Dict::new(key),
                })
                .collect(),
            key,
        }
    }
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.key.hash(key)
    }
    #[inline]
    pub fn db_mut(&mut self, i: u32) -> &mut Keyspace {
        &mut self.dbs[i as usize]
    }
    pub fn db(&self, i: u32) -> &Keyspace {
        &self.dbs[i as usize]
    }
    pub fn iter(&self) -> impl Iterator<Item = &Keyspace> {
        self.dbs.iter()
    }
    pub fn is_expired(&self, db: u32, key: &[u8], now: u64) -> bool {
        self.dbs[db as usize]
            .dict
            .find(self.hash(key), key)
            .is_some_and(|e| e.is_expired(now))
    }
    pub fn type_of(&self, db: u32, key: &[u8], now: u64) -> Option<Type> {
        self.dbs[db as usize]
            .dict
            .find(self.hash(key), key)
            .filter(|e| !e.is_expired(now))
            .map(|e| e.type_of())
    }
    pub fn expiring_len(&self) -> usize {
        self.dbs.iter().map(|d| d.expiring_len()).sum()
    }
    pub fn snapshot_held(&self) -> usize {
        0
    }
}
