use proptest::prelude::*;

use super::*;

fn texts(lp: &Listpack) -> Vec<Vec<u8>> {
    lp.iter().map(Elem::to_vec).collect()
}

fn of(texts: &[Vec<u8>]) -> Listpack {
    texts.iter().map(|t| Elem::from(&t[..])).collect()
}

/// Whatever a listpack has gone through, a validator that knows only bytes must accept it, and both directions and
/// all ways to find an element must agree with the model.
#[track_caller]
fn check_against(lp: &Listpack, model: &[Vec<u8>]) {
    assert_eq!(entry::check(lp.bytes(), true), Ok(()));
    assert_eq!(lp.len(), model.len());
    assert_eq!(lp.is_empty(), model.is_empty());
    assert_eq!(texts(lp), model);
    let mut backwards: Vec<_> = lp.iter().rev().map(Elem::to_vec).collect();
    backwards.reverse();
    assert_eq!(backwards, model);
    for (i, want) in model.iter().enumerate() {
        let from_end = i as i64 - model.len() as i64;
        assert_eq!(lp.seek(i as i64), lp.seek(from_end));
        assert!(lp.at(i as i64).is_some_and(|e| e.is(want)));
    }
    assert_eq!(lp.seek(model.len() as i64), None);
    assert_eq!(lp.seek(-1 - model.len() as i64), None);
    // The same elements have the same bytes, however they came there.
    assert_eq!(lp.bytes(), of(model).bytes());
    assert!(lp.memory_bytes() >= lp.total_bytes());
}

#[test]
fn the_bytes_are_those_that_redis_makes() {
    let limits: [(i64, &str); 22] = [
        (0, "0001"),
        (127, "7f01"),
        (128, "c08002"),
        (-1, "dfff02"),
        (4095, "cfff02"),
        (-4096, "d00002"),
        (4096, "f1001003"),
        (-4097, "f1ffef03"),
        (32767, "f1ff7f03"),
        (-32768, "f1008003"),
        (32768, "f200800004"),
        (-32769, "f2ff7fff04"),
        (8388607, "f2ffff7f04"),
        (-8388608, "f200008004"),
        (8388608, "f30000800005"),
        (-8388609, "f3ffff7fff05"),
        (2147483647, "f3ffffff7f05"),
        (-2147483648, "f30000008005"),
        (2147483648, "f4000000800000000009"),
        (-2147483649, "f4ffffff7fffffffff09"),
        (i64::MAX, "f4ffffffffffffff7f09"),
        (i64::MIN, "f4000000000000008009"),
    ];
    let mut lp = Listpack::new();
    let mut want = Vec::new();
    for (int, hex) in limits {
        lp.push_back(Elem::from(int.to_string().as_bytes()));
        assert_eq!(lp.at(-1), Some(Elem::Int(int)));
        let digits = (0..hex.len()).step_by(2);
        want.extend(digits.map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()));
    }
    type Row<'a> = (&'a [u8], usize, &'a [u8], &'a [u8]);
    let strings: [Row; 7] = [
        (b"", 1, b"\x80", b"\x01"),
        (b"01", 1, b"\x82", b"\x03"),
        (b"9223372036854775808", 1, b"\x93", b"\x14"),
        (b"x", 63, b"\xbf", b"\x40"),
        (b"y", 64, b"\xe0\x40", b"\x42"),
        (b"z", 126, b"\xe0\x7e", b"\x01\x80"),
        (b"w", 4096, b"\xf0\0\x10\0\0", b"\x20\x85"),
    ];
    for (text, times, head, back) in strings {
        let text = text.repeat(times);
        lp.push_back(Elem::Str(&text));
        want.extend([head, &text, back].concat());
    }
    assert_eq!(&lp.bytes()[6..lp.total_bytes() - 1], want);
    assert_eq!(&lp.bytes()[4..6], [29, 0]);
    check_against(&lp, &texts(&lp));
}

/// The backlen of a long entry; the lengths are those where its width changes.
#[test]
fn long_strings_are_found_from_behind() {
    for n in [16376, 16377, 16378, 2_097_144, 2_097_145, 2_097_146] {
        let lp = of(&[b"head".to_vec(), vec![b'q'; n], b"tail".to_vec()]);
        assert_eq!(lp.at(-2).map(Elem::text_len), Some(n));
        assert_eq!(lp.iter().rev().nth(2), Some(Elem::Str(b"head")));
        assert_eq!(entry::check(lp.bytes(), true), Ok(()));
        assert_eq!(
            lp.total_bytes(),
            7 + lp.iter().map(Elem::entry_bytes).sum::<usize>()
        );
    }
}

#[test]
fn more_elements_than_the_header_counts() {
    let mut lp = Listpack::new();
    for i in 0..65_540 {
        lp.push_back(Elem::Int(i));
    }
    assert_eq!(lp.bytes()[4..6], [0xFF, 0xFF]);
    assert_eq!(lp.len(), 65_540);
    assert_eq!(lp.at(65_539), Some(Elem::Int(65_539)));
    let rest = lp.split_off(10);
    assert_eq!((lp.len(), rest.len()), (10, 65_530));
    assert_eq!(lp.bytes()[4..6], [10, 0]);
    assert_eq!(entry::check(rest.bytes(), true), Ok(()));
}

/// A queue that is filled at one end and emptied at the other neither grows nor forgets its size class.
#[test]
fn the_gap_is_given_back() {
    for front in [true, false] {
        let mut lp = Listpack::new();
        let elem = Elem::Str(b"sixteen bytes xx");
        for i in 0..20_000 {
            if front {
                lp.push_front(elem);
            } else {
                lp.push_back(elem);
            }
            if i >= 100 {
                let oldest = if front { lp.last() } else { lp.first() };
                lp.remove(oldest.unwrap());
                assert!(lp.memory_bytes() < 2 * 2048, "{}", lp.memory_bytes());
            }
        }
        while let Some(pos) = lp.first() {
            lp.remove(pos);
            assert!(lp.memory_bytes() <= 2 * lp.total_bytes().next_power_of_two());
        }
        assert_eq!(lp.memory_bytes(), 8);
    }
}

#[test]
fn a_needle_finds_integers_by_their_text() {
    let lp = of(&["f1", "10", "10", "f1", "f2", "-7"].map(|s| s.as_bytes().to_vec()));
    let find = |text: &str, skip| {
        let pos = lp.find(lp.first(), Needle::new(text.as_bytes()), skip);
        pos.map(|p| lp.iter().take_while(|_| true).count() - lp.iter_from(p).count())
    };
    assert_eq!(find("10", 0), Some(1));
    assert_eq!(find("10", 1), Some(2));
    assert_eq!(find("f1", 1), Some(0));
    assert_eq!(find("-7", 1), None);
    assert_eq!(find("010", 0), None);
}

#[derive(Clone, Debug)]
enum Op {
    PushBack(Vec<u8>),
    PushFront(Vec<u8>),
    InsertBefore(usize, Vec<u8>),
    InsertAfter(usize, Vec<u8>),
    InsertAll(usize, Vec<Vec<u8>>),
    Replace(usize, Vec<u8>),
    Remove(usize, usize),
    Split(usize),
    Append(Vec<Vec<u8>>),
    Clone,
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => any::<i64>().prop_map(|v| (v >> (v & 63)).to_string().into_bytes()),
        4 => prop::collection::vec(any::<u8>(), 0..70),
        1 => prop::collection::vec(any::<u8>(), 100..300),
        1 => (0..3usize, 4090..5000usize).prop_map(|(c, n)| vec![b"xy1"[c]; n]),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let at = any::<usize>();
    prop_oneof![
        3 => text().prop_map(Op::PushBack),
        3 => text().prop_map(Op::PushFront),
        2 => (at, text()).prop_map(|(i, t)| Op::InsertBefore(i, t)),
        2 => (at, text()).prop_map(|(i, t)| Op::InsertAfter(i, t)),
        1 => (at, prop::collection::vec(text(), 0..4)).prop_map(|(i, t)| Op::InsertAll(i, t)),
        2 => (at, text()).prop_map(|(i, t)| Op::Replace(i, t)),
        4 => (at, 0..5usize).prop_map(|(i, n)| Op::Remove(i, n)),
        1 => at.prop_map(Op::Split),
        1 => prop::collection::vec(text(), 0..4).prop_map(Op::Append),
        1 => Just(Op::Clone),
    ]
}

fn apply(lp: &mut Listpack, model: &mut Vec<Vec<u8>>, op: Op) {
    let place = |i: usize, model: &Vec<Vec<u8>>| (!model.is_empty()).then(|| i % model.len());
    match op {
        Op::PushBack(t) => {
            lp.push_back(Elem::Str(&t));
            model.push(t);
        }
        Op::PushFront(t) => {
            lp.push_front(Elem::from(&t[..]));
            model.insert(0, t);
        }
        Op::InsertBefore(i, t) | Op::InsertAfter(i, t) if model.is_empty() => {
            lp.insert_all(lp.seek(i as i64), &[Elem::from(&t[..])]);
            model.push(t);
        }
        Op::InsertBefore(i, t) => {
            let i = i % model.len();
            lp.insert_before(lp.seek(i as i64).unwrap(), Elem::from(&t[..]));
            model.insert(i, t);
        }
        Op::InsertAfter(i, t) => {
            let i = i % model.len();
            lp.insert_after(lp.seek(i as i64).unwrap(), Elem::from(&t[..]));
            model.insert(i + 1, t);
        }
        Op::InsertAll(i, ts) => {
            let i = i % (model.len() + 1);
            let elems: Vec<_> = ts.iter().map(|t| Elem::from(&t[..])).collect();
            lp.insert_all(lp.seek(i as i64), &elems);
            model.splice(i..i, ts);
        }
        Op::Replace(i, t) => {
            if let Some(i) = place(i, model) {
                lp.replace(lp.seek(i as i64).unwrap(), Elem::from(&t[..]));
                model[i] = t;
            }
        }
        Op::Remove(i, n) => {
            if let Some(i) = place(i, model) {
                let next = lp.remove_from(lp.seek(i as i64).unwrap(), n);
                model.drain(i..(i + n).min(model.len()));
                assert_eq!(next, lp.seek(i as i64));
            }
        }
        Op::Split(i) => {
            let i = i % (model.len() + 1);
            let rest = lp.split_off(i);
            check_against(&rest, &model.split_off(i));
        }
        Op::Append(ts) => {
            lp.append(&of(&ts));
            model.extend(ts);
        }
        Op::Clone => *lp = lp.clone(),
    }
}

proptest! {
    #[test]
    fn it_behaves_as_a_vector(ops in prop::collection::vec(op(), 0..120)) {
        let mut lp = Listpack::new();
        let mut model = Vec::new();
        for op in ops {
            apply(&mut lp, &mut model, op);
            check_against(&lp, &model);
        }
    }

    /// Bytes that a deep check lets through behave in every way; those that only a shallow one does never lead
    /// outside (a sanitizer would tell) nor panic.
    #[test]
    fn corrupt_bytes_do_no_harm(
        ts in prop::collection::vec(text(), 0..12),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        t in text(),
        i in -8i64..8,
    ) {
        let mut bytes = of(&ts).bytes().to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(lp) = Listpack::from_bytes(&bytes, true) {
            let read = texts(&lp);
            prop_assert_eq!(read.len(), lp.len());
            let mut backwards: Vec<_> = lp.iter().rev().map(Elem::to_vec).collect();
            backwards.reverse();
            prop_assert_eq!(read, backwards);
        }
        if let Ok(mut lp) = Listpack::from_bytes(&bytes, false) {
            let _ = (lp.len(), lp.iter().count(), lp.iter().rev().count());
            lp.find(lp.first(), Needle::new(&t), 1);
            if let Some(pos) = lp.seek(i) {
                lp.insert_after(pos, Elem::Str(&t));
                lp.replace(pos, Elem::Str(&t));
                lp.remove_from(pos, 2);
            }
            lp.split_off(i.unsigned_abs() as usize);
        }
    }
}
