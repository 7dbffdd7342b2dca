//! The bytes themselves: malformed requests, inline commands, big arguments in random pieces, long
//! pipelines, and one greedy client beside a polite one. Here replies are compared as bytes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use redstart::base::rng::Rng;
use redstart::resp::value::Value;

use crate::compare::show;
use crate::node::{Conn, Node, both, encode, our_program};
use crate::random::seed;

/// Everything a server sends for these bytes on a new connection, to the end. A server that closes while
/// bytes are still on the way may lose its own last words (TCP's reset): asked again then.
fn answer(node: &Node, pieces: &[&[u8]]) -> Vec<u8> {
    let mut last = Vec::new();
    for _ in 0..5 {
        let mut conn = node.connect();
        for piece in pieces {
            conn.send_raw(piece);
        }
        conn.finish();
        match conn.read_to_end() {
            Ok(all) => return all,
            Err(part) => last = part,
        }
    }
    last
}

/// Both servers give the same answer to these bytes.
fn same_answer(nodes: &[Node; 2], seed: u64, pieces: &[&[u8]]) {
    let [ours, theirs] = nodes.each_ref().map(|node| answer(node, pieces));
    let sent: Vec<u8> = pieces.concat();
    assert!(
        ours == theirs,
        "seed {seed}: {}\n  ours:   {}\n  theirs: {}",
        sent[..sent.len().min(300)].escape_ascii(),
        ours[..ours.len().min(500)].escape_ascii(),
        theirs[..theirs.len().min(500)].escape_ascii()
    );
}

/// Requests that are no requests, requests that nearly are, and such that only look odd.
#[rustfmt::skip]
const ODD: &[&[u8]] = &[
    b"*1\r\n$4\r\nPING\r\n", b"PING\r\n", b"PING\n", b"\r\n", b"\n\n\nPING\r\n", b"   \r\nPING\r\n", b"*0\r\nPING\r\n",
    b"*-1\r\nPING\r\n", b"*-10\r\nPING\r\n", b"*\r\nPING\r\n", b"*x\r\nPING\r\n", b"*1.5\r\nPING\r\n", b"* 1\r\n$4\r\nPING\r\n",
    b"*01\r\n$4\r\nPING\r\n", b"*+1\r\n$4\r\nPING\r\n", b"*1048576\r\n", b"*1048577\r\n", b"*2147483647\r\n", b"*2147483648\r\n",
    b"*99999999999999999999\r\n", b"*3\r\n", b"*1\r\n4\r\nPING\r\n", b"*1\r\n:4\r\nPING\r\n", b"*1\r\n\r\nPING\r\n", b"*1\r\n\x00\r\n",
    b"*1\r\n\xff\xfe\r\n", b"*2\r\n$4\r\nPING\r\nfoo\r\n", b"*1\r\n$\r\nPING\r\n", b"*1\r\n$x\r\nPING\r\n", b"*1\r\n$-1\r\nPING\r\n",
    b"*1\r\n$-5\r\nPING\r\n", b"*1\r\n$+4\r\nPING\r\n", b"*1\r\n$04\r\nPING\r\n", b"*1\r\n$4 \r\nPING\r\n", b"*1\r\n$0\r\n\r\n",
    b"*1\r\n$536870912\r\n", b"*1\r\n$536870913\r\n", b"*1\r\n$9223372036854775807\r\n", b"*1\r\n$9223372036854775808\r\n",
    b"*1\r\n$4294967296\r\n", b"*1\r\n$3\r\nPING\r\n*1\r\n$4\r\nPING\r\n", b"*1\r\n$5\r\nPING\r\n*1\r\n$4\r\nPING\r\n",
    b"*1\n$4\r\nPING\r\n", b"*1\r\n$4\nPING\r\n", b"*1\r$4\r\nPING\r\n", b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n", b"*1\r\n$4\r\nPI",
    b"*2\r\n$4\r\nECHO\r\n$3\r\n\r\n\n\r\n", b"ECHO \"a b\"\r\n", b"ECHO 'a b'\r\n", b"ECHO 'a\\'b'\r\n", b"ECHO \"a\\x41\\n\\\"\"\r\n",
    b"ECHO \"a\r\n", b"ECHO 'a\r\nPING\r\n", b"ECHO \"a\"b\r\n", b"ECHO a\"b c\"\r\n", b"ECHO \"\\xzz\"\r\n", b"ECHO a\0b\r\n", b"\0\r\n",
    b"ECHO  a\tb\r\n", b"ECHO\ta\r\n", b"\x0bPING\r\n", b"PING\r", b"PING\r\r\n", b"PING\nPING\r\nQUIT\r\nPING\r\n", b"GET\r\n",
    b"nosuch a b c\r\n", b"POST / HTTP/1.1\r\n\r\nPING\r\n", 
    b"hOsT: x\r\nPING\r\n", b"Host x\r\nPING\r\n", b"*1\r\n$5\r\nHost:\r\nPING\r\n", b"*1\r\n$4\r\nPOST\r\nPING\r\n", b"postx\r\nPING\r\n",
    b"$4\r\nPING\r\n", b"+OK\r\n", b":1\r\n", b"-ERR\r\n", b"%1\r\n", b"~1\r\n", b"\xff\xff\r\n", b"PING \xe9\r\n", b"'' x\r\n", b"\"\"\r\n",
    b"*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$-1\r\n", b"*2\r\n$4\r\nPING\r\n$0\r\n\r\nPING\r\n",
    b"MULTI\r\n*x\r\n", b"*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nGET\r\n$x\r\n",
];

#[test]
fn malformed_requests_get_the_same_answer() {
    let seed = seed();
    let nodes = both(&[]);
    let mut rng = Rng::new(seed);
    // A browser is sent away at once: what was answered before may or may not arrive.
    let browser = |bytes: &[u8]| {
        let lower = bytes.to_ascii_lowercase();
        lower.windows(4).any(|w| w == b"post" || w == b"host")
    };
    for odd in ODD {
        same_answer(&nodes, seed, &[odd]);
        if browser(odd) {
            continue;
        }
        same_answer(
            &nodes,
            seed,
            &[b"*2\r\n$4\r\nECHO\r\n$1\r\nx\r\n", odd, b"PING end\r\n"],
        );
    }
    // Two of them in a row, and one with a byte changed, cut where chance will have it.
    for _ in 0..600 {
        let mut bytes = ODD[rng.index(ODD.len())].to_vec();
        bytes.extend_from_slice(ODD[rng.index(ODD.len())]);
        let at = rng.index(bytes.len());
        match rng.below(3) {
            0 => bytes[at] = b"*$\r\n0123456789x\"' \0"[rng.index(19)],
            1 => drop(bytes.remove(at)),
            _ => {}
        }
        // HELLO tells version and ID.
        let tells = bytes.windows(5).any(|w| w.eq_ignore_ascii_case(b"hello"));
        if !tells && !browser(&bytes) {
            let (head, tail) = bytes.split_at(rng.index(bytes.len()));
            same_answer(&nodes, seed, &[head, tail]);
        }
    }
}

#[test]
fn limits_of_the_protocol_are_the_same() {
    let seed = seed();
    let nodes = both(&[]);
    // An inline request, a count and a length that never end.
    for (head, len) in [
        (&b"PING "[..], 65_530),
        (b"PING ", 65_540),
        (b"*1", 65_540),
        (b"*1\r\n$1", 65_540),
    ] {
        let mut bytes = head.to_vec();
        bytes.resize(len, b'1');
        same_answer(&nodes, seed, &[&bytes]);
        bytes.extend_from_slice(b"\r\n");
        if len < 65_536 {
            same_answer(&nodes, seed, &[&bytes]);
        }
    }
    // Smaller limits, and those of a client that has not said who it is.
    let nodes = both(&["--proto-max-bulk-len", "1mb", "--requirepass", "secret"]);
    for odd in [
        &b"*2\r\n$4\r\nECHO\r\n$1048577\r\n"[..],
        b"AUTH secret\r\n*2\r\n$4\r\nECHO\r\n$1048577\r\n",
        b"AUTH secret\r\n*11\r\n$4\r\nPING\r\n",
        b"*10\r\n$4\r\nPING\r\n",
        b"*11\r\n$4\r\nPING\r\n",
        b"*1\r\n$16384\r\n",
        b"*1\r\n$16385\r\n",
        b"*2\r\n$4\r\nAUTH\r\n$16385\r\n",
        b"AUTH secret\r\nSETRANGE k 1048577 x\r\nSETRANGE k 1048575 x\r\nAPPEND k x\r\nSTRLEN k\r\n",
    ] {
        same_answer(&nodes, seed, &[odd]);
    }
}

/// Values of 32 KB to 1 MB, and what is done with them, in pieces as the network would cut them.
#[test]
fn big_arguments_arrive_in_any_pieces() {
    let seed = seed();
    let nodes = both(&[]);
    let mut rng = Rng::new(seed);
    let mut conns = nodes.each_ref().map(Node::connect);
    for step in 0..250 {
        let len = match rng.below(4) {
            0 => 32 * 1024 - 4 + rng.index(8),
            1 => 65_536 - 4 + rng.index(8),
            2 => rng.index(300),
            _ => 32 * 1024 + rng.index(1 << 20),
        };
        let mut value = vec![0; len];
        rng.fill(&mut value);
        let key = ["a", "b", "c"][rng.index(3)].as_bytes().to_vec();
        let number = |n: i64| n.to_string().into_bytes();
        let offset = rng.below(1 << 21) as i64;
        let args: Vec<Vec<u8>> = match rng.below(12) {
            0 | 1 => vec![b"SET".to_vec(), key, value],
            2 => vec![b"APPEND".to_vec(), key, value],
            3 => vec![b"SETRANGE".to_vec(), key, number(offset), value],
            4 => vec![
                b"GETRANGE".to_vec(),
                key,
                number(offset / 3),
                number(offset),
            ],
            5 => vec![
                b"GETRANGE".to_vec(),
                key,
                number(-offset),
                number(-offset / 2),
            ],
            6 => vec![
                b"MSET".to_vec(),
                b"a".to_vec(),
                value.clone(),
                b"b".to_vec(),
                value,
            ],
            7 => vec![b"GETSET".to_vec(), key, value],
            8 => vec![b"COPY".to_vec(), key, b"c".to_vec(), b"REPLACE".to_vec()],
            9 => vec![b"ECHO".to_vec(), value],
            10 => vec![b"STRLEN".to_vec(), key],
            _ => vec![b"DEBUG".to_vec(), b"DIGEST".to_vec()],
        };
        let mut bytes = Vec::new();
        if step % 7 == 0 {
            encode(&["MULTI"], &mut bytes);
        }
        encode(&args, &mut bytes);
        if step % 7 == 0 {
            encode(&["EXEC"], &mut bytes);
        }
        let mut cuts: Vec<usize> = (0..rng.index(6)).map(|_| rng.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort();
        for cut in cuts.windows(2) {
            for conn in &mut conns {
                conn.send_raw(&bytes[cut[0]..cut[1]]);
            }
        }
        for _ in 0..if step % 7 == 0 { 3 } else { 1 } {
            let [ours, theirs] = conns.each_mut().map(Conn::reply);
            let name = String::from_utf8_lossy(&args[0]).into_owned();
            assert!(
                ours == theirs,
                "seed {seed}, step {step}, {name}: {} / {}",
                show(&ours),
                show(&theirs)
            );
        }
    }
}

/// A pipeline of a hundred thousand commands: the same bytes in the same order.
#[test]
fn a_long_pipeline_is_answered_in_order() {
    let seed = seed();
    let nodes = both(&[]);
    let mut rng = Rng::new(seed);
    let mut bytes = Vec::new();
    for i in 0..100_000 {
        let key = format!("k{}", rng.below(1000));
        match rng.below(6) {
            0 => encode(&["SET", &key, &i.to_string()], &mut bytes),
            1 => encode(&["GET", &key], &mut bytes),
            2 => encode(&["INCR", &key], &mut bytes),
            3 => encode(&["PING", &key], &mut bytes),
            4 => bytes.extend_from_slice(format!("APPEND {key} \"{i}\"\r\n").as_bytes()),
            _ => encode(&["NOSUCH", &key], &mut bytes),
        }
    }
    encode(&["QUIT"], &mut bytes);
    let [ours, theirs] = nodes.each_ref().map(|node| {
        let mut conn = node.connect();
        let mut writer = conn.writer();
        thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&bytes).unwrap());
            conn.read_to_end().unwrap()
        })
    });
    let at = ours.iter().zip(&theirs).position(|(a, b)| a != b);
    assert!(
        at.is_none() && ours.len() == theirs.len(),
        "seed {seed}: replies differ at byte {at:?}"
    );
}

/// A client that sends 100 MB at once does not keep others waiting until it is done.
#[test]
fn a_greedy_client_does_not_hold_up_others() {
    const ITEMS: usize = 100_000;
    let node = Node::start(&our_program(), &[]);
    let mut greedy: TcpStream = node.connect().writer();
    let mut reader = greedy.try_clone().unwrap();
    let mut polite = node.connect();
    let mut item = Vec::new();
    encode(&["SET", "big", &"x".repeat(980)], &mut item);
    encode(&["INCR", "done"], &mut item);
    let mut between = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let chunk = item.repeat(1000);
            for _ in 0..ITEMS / 1000 {
                greedy.write_all(&chunk).unwrap();
            }
        });
        scope.spawn(|| {
            // The replies have to go somewhere; they end with the last count.
            let end = format!(":{ITEMS}\r\n");
            let (mut tail, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
            while !tail.ends_with(end.as_bytes()) {
                let n = reader.read(&mut chunk).unwrap();
                assert!(n > 0, "the server closed the connection");
                tail.extend_from_slice(&chunk[..n]);
                tail.drain(..tail.len().saturating_sub(end.len()));
            }
        });
        // How far the other has come, again and again: each new figure is an answer given meanwhile.
        let mut last = 0;
        while last < ITEMS {
            let now = match polite.call(&["GET", "done"]) {
                Value::Bulk(n) => String::from_utf8(n).unwrap().parse().unwrap(),
                _ => 0,
            };
            between += usize::from(now > last && now < ITEMS);
            last = now;
        }
    });
    assert!(
        between >= 50,
        "only {between} answers while the other's pipeline ran"
    );
}
