//! Bytes that may be a listpack: if they pass, every walk over them stays inside, and edits keep them whole.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redstart::ds::listpack::{Elem, Listpack};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut list) = Listpack::from_bytes(bytes, true) else {
        return;
    };
    let forward: Vec<Vec<u8>> = list.iter().map(Elem::to_vec).collect();
    assert_eq!(forward.len(), list.len());
    let (mut at, mut backward) = (list.last(), Vec::new());
    while let Some(pos) = at {
        backward.extend(list.get(pos).map(Elem::to_vec));
        at = list.prev(pos);
    }
    backward.reverse();
    assert_eq!(forward, backward);
    if list.has_room_for(16) {
        list.push_front(Elem::Int(-7));
        list.push_back(Elem::Str(b"a text"));
    }
    if let Some(pos) = list.seek(1) {
        list.replace(pos, Elem::Int(1 << 40));
    }
    let edited = list.bytes().to_vec();
    assert!(Listpack::from_bytes(&edited, true).is_ok());
    while list.pop_back(|_| ()).is_some() {}
});
