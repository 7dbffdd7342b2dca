//! A payload of RESTORE: a value that is taken can be written again, and what is written is taken.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redstart::base::lzf::Compressor;
use redstart::config::Config;
use redstart::ds::dict::HashKey;
use redstart::object::Entry;
use redstart::rdb::{Dump, Format, Rules, encode_dump};

fuzz_target!(|body: &[u8]| {
    let config = Config::default();
    let rules = |deep| Rules::new(&config, HashKey::new(1, 2), 8192, deep);
    for deep in [false, true] {
        let payload = [body, &[11, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        let Ok(mut dump) = Dump::open(&payload, false) else {
            return;
        };
        let Ok(Some(value)) = dump.value(&rules(deep)) else {
            continue;
        };
        let entry = Entry::new(b"key", value, None, 0);
        let again = encode_dump(&entry, Format::of(&config), &mut Compressor::new());
        let Ok(mut dump) = Dump::open(&again, true) else {
            panic!("the footer of {again:?}");
        };
        assert!(matches!(dump.value(&rules(false)), Ok(Some(_))), "{again:?}");
    }
});
