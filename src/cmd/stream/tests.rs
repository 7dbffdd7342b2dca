//! What stream commands log, as Redis logs it, and which events they cause.

use crate::cmd::fault::Flow;
use crate::cmd::tests::Bench;
use crate::resp::reply::Reply;

fn bench(commands: &[&str]) -> Bench {
    let mut b = Bench::new();
    for words in commands {
        b.run(words);
    }
    b
}

/// An XCLAIM as it is logged.
fn claim(consumer: &str, id: &str, time: u64, count: u64, last: &str) -> String {
    format!(
        "XCLAIM t g {consumer} 0 {id} TIME {time} RETRYCOUNT {count} FORCE JUSTID LASTID {last}"
    )
}

const NOW: u64 = 1_700_000_000_000;

#[test]
fn an_entry_is_logged_with_its_id_and_trimming_as_what_it_came_to() {
    let mut b = Bench::new();
    b.config.stream_node_max_entries = 2;
    b.expect(
        "xadd s * a 1",
        "xadd s 1700000000000-0 a 1",
        "new s, xadd s",
    );
    b.expect(
        "xadd s 1700000000009-* a 1",
        "xadd s 1700000000009-0 a 1",
        "xadd s",
    );
    b.expect(
        "xadd s 1700000000009-5 a 1",
        "xadd s 1700000000009-5 a 1",
        "xadd s",
    );
    b.expect(
        "xadd s MAXLEN ~ 2 LIMIT 10 1700000000009-* a 1",
        "xadd s MAXLEN = 2 LIMIT 10 1700000000009-6 a 1",
        "xadd s, xtrim s",
    );
    b.expect(
        "xadd s MAXLEN 2 1700000000009-8 a 1",
        "xadd s MAXLEN 2 1700000000009-8 a 1",
        "xadd s, xtrim s",
    );
    b.expect(
        "xadd s MINID ~ 1700000000009-7 1700000000009-9 a 1",
        "xadd s MINID = 1700000000009-8 1700000000009-9 a 1",
        "xadd s, xtrim s",
    );
    b.expect("xtrim s MAXLEN ~ 1", "", "");
    b.expect(
        "xtrim s MINID ~ 1700000000009-10",
        "xtrim s MINID = 18446744073709551615-18446744073709551615",
        "xtrim s",
    );
    b.expect("xtrim s MAXLEN 0", "", "");
    b.expect(
        "xsetid s 1700000000010",
        "xsetid s 1700000000010",
        "xsetid s",
    );
    b.expect("xadd n NOMKSTREAM * a 1", "", "");
}

#[test]
fn reading_as_a_group_is_logged_as_what_it_did() {
    let mut b = bench(&[
        "xadd t 1 a 1",
        "xadd t 2 a 1",
        "xadd t 3 a 1",
        "xadd t 4 a 1",
    ]);
    b.expect(
        "xgroup create t g 0",
        "xgroup create t g 0",
        "xgroup-create t",
    );
    b.expect(
        "xgroup create u g $ MKSTREAM",
        "xgroup create u g $ MKSTREAM",
        "new u, xgroup-create u",
    );
    b.expect(
        "xreadgroup GROUP g c COUNT 2 STREAMS t >",
        &[
            claim("c", "1-0", NOW, 1, "1-0"),
            claim("c", "2-0", NOW, 1, "2-0"),
        ]
        .join(", "),
        "xgroup-createconsumer t",
    );
    b.expect("xreadgroup GROUP g c STREAMS t 0", "", "");
    b.expect(
        "xreadgroup GROUP g n COUNT 1 NOACK STREAMS t >",
        "XGROUP CREATECONSUMER t g n, XGROUP SETID t g 3-0 ENTRIESREAD 3",
        "xgroup-createconsumer t",
    );
    b.expect(
        "xreadgroup GROUP g n2 NOACK STREAMS u >",
        "XGROUP CREATECONSUMER u g n2",
        "xgroup-createconsumer u",
    );
    b.expect(
        "xreadgroup GROUP g n3 STREAMS u >",
        "",
        "xgroup-createconsumer u",
    );
}

#[test]
fn claims_are_logged_entry_by_entry_and_so_is_what_they_find_gone() {
    let mut b = bench(&[
        "xadd t 1 a 1",
        "xadd t 2 a 1",
        "xadd t 3 a 1",
        "xgroup create t g 0",
    ]);
    b.run("xreadgroup GROUP g c COUNT 2 STREAMS t >");
    b.expect(
        "xclaim t g d 0 1 2-0 RETRYCOUNT 7 TIME 5",
        &[claim("d", "1", 5, 7, "2-0"), claim("d", "2-0", 5, 7, "2-0")].join(", "),
        "xgroup-createconsumer t",
    );
    b.expect(
        "xclaim t g d 0 3 FORCE JUSTID LASTID 9-9",
        &claim("d", "3", NOW, 1, "9-9"),
        "",
    );
    b.expect("xclaim t g d 100000000000000 1", "", "");
    b.expect(
        "xclaim t g d 0 9 LASTID 10",
        "XGROUP SETID t g 10-0 ENTRIESREAD 2",
        "",
    );
    b.run("xdel t 1");
    b.expect("xclaim t g d 0 1", &claim("d", "1", 5, 7, "10-0"), "");
    b.expect(
        "xautoclaim t g d 0 0 COUNT 1",
        &claim("d", "2-0", NOW, 8, "10-0"),
        "",
    );
    b.run("xdel t 3");
    b.expect(
        "xautoclaim t g d 0 0 JUSTID",
        &[
            claim("d", "2-0", NOW, 8, "10-0"),
            claim("d", "3-0", NOW, 1, "10-0"),
        ]
        .join(", "),
        "",
    );
    b.expect("xack t g 2 3", "xack t g 2 3", "");
    b.expect("xack t g 2 3", "", "");
    b.expect(
        "xgroup delconsumer t g d",
        "xgroup delconsumer t g d",
        "xgroup-delconsumer t",
    );
    b.expect(
        "xgroup destroy t g",
        "xgroup destroy t g",
        "xgroup-destroy t",
    );
}

#[test]
fn a_read_that_waits_stands_where_the_stream_ended() {
    let mut b = bench(&["xadd t 7-1 a 1"]);
    let flow = b.call("xread BLOCK 50 STREAMS none t $ $", &mut Reply::new());
    let Ok(Flow::BlockAs(block, again)) = flow else {
        panic!("{flow:?}");
    };
    assert_eq!(block.deadline, Some(NOW + 50));
    assert!(!block.wake_on_delete);
    assert_eq!(again.slices()[4..], [&b"none"[..], b"t", b"0-0", b"7-1"]);
}
