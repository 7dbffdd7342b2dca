//! A whole RDB file: it is read to its end or refused, and never takes memory for what it only claims.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redstart::config::Config;
use redstart::db::keyspace::Databases;
use redstart::ds::dict::{Filling, HashKey};
use redstart::object::Entry;
use redstart::rdb::{Decoder, Item, Rules};

const KEY: HashKey = HashKey::new(1, 2);

fuzz_target!(|file: &[u8]| {
    let rules = Rules::new(&Config::default(), KEY, 8192, true);
    let Ok(mut decoder) = Decoder::new(file, rules, false) else {
        return;
    };
    let mut dbs = Databases::new(1, KEY);
    let mut filling = Filling::new(0);
    while let Ok(Some(item)) = decoder.next() {
        match item {
            Item::ResizeDb { keys, .. } if dbs.is_empty() => {
                filling = Filling::new(keys as usize);
            }
            Item::Key(key) => {
                if let Some(value) = key.value {
                    let entry = Entry::new(key.key, value, key.expiry_ms, 0);
                    dbs.db_mut(0).fill(&mut filling, entry);
                }
            }
            _ => {}
        }
    }
    dbs.db_mut(0).filled(filling);
});
