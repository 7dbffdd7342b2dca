//! Damaged payloads through RESTORE: what is refused is refused, what is taken can be read, changed, saved and loaded like
//! anything else.

use super::{debuggable, world_with};
use crate::base::rng::Rng;
use crate::exec::conn::Token;
use crate::rdb::tests::old::old_payloads;
use crate::server::test_io::TestServer;

/// Commands that make a value of each type and form.
const VALUES: &[&[&str]] = &[
    &["SET", "k", "12345"],
    &["SET", "k", "a text, a text, a text, a text, a text"],
    &["RPUSH", "k", "a", "7", "-300", "text"],
    &["SADD", "k", "1", "2", "-30000"],
    &["SADD", "k", "a", "1", "text"],
    &["SADD", "k", "a", "b", "c", "d", "e", "f", "g"],
    &["ZADD", "k", "1", "a", "2.5", "b", "-inf", "c"],
    &[
        "ZADD", "k", "1", "a", "2", "b", "3", "c", "4", "d", "4", "e", "6", "f", "7", "g",
    ],
    &["HSET", "k", "a", "1", "b", "text", "7", "8"],
    &[
        "HSET", "k", "a", "1", "b", "2", "c", "3", "d", "4", "e", "5", "f", "6", "g", "7",
    ],
];

/// What is done with a key that was taken, whatever it holds: each element is read, then some are changed. Commands of
/// other types are refused by themselves.
const USES: &[&[&str]] = &[
    &["GET", "k"],
    &["STRLEN", "k"],
    &["LRANGE", "k", "0", "-1"],
    &["SMEMBERS", "k"],
    &["SRANDMEMBER", "k", "-20"],
    &["ZRANGE", "k", "0", "-1", "WITHSCORES"],
    &["ZRANGEBYSCORE", "k", "-inf", "(5", "WITHSCORES"],
    &["ZRANGEBYLEX", "k", "-", "[zz"],
    &["HGETALL", "k"],
    &["HRANDFIELD", "k", "-20", "WITHVALUES"],
    &["XRANGE", "k", "-", "+"],
    &["XINFO", "STREAM", "k", "FULL", "COUNT", "0"],
    &["XPENDING", "k", "readers", "-", "+", "100"],
    &["SCAN", "0"],
    &["OBJECT", "ENCODING", "k"],
    &["MEMORY", "USAGE", "k", "SAMPLES", "0"],
    &["SORT", "k", "ALPHA"],
    &["COPY", "k", "copy"],
    &["APPEND", "k", "more"],
    &["LSET", "k", "1", "other"],
    &["LINSERT", "k", "BEFORE", "7", "new"],
    &["LREM", "k", "0", "text"],
    &["LPOP", "k"],
    &["SADD", "k", "more", "17"],
    &["SREM", "k", "a", "1"],
    &["SPOP", "k"],
    &["ZADD", "k", "3", "more", "8", "a"],
    &["ZREM", "k", "b"],
    &["ZPOPMIN", "k"],
    &["HSET", "k", "more", "1", "a", "x"],
    &["HDEL", "k", "b"],
    &["HINCRBY", "k", "7", "1"],
    &["XADD", "k", "*", "more", "1"],
    &["XREADGROUP", "GROUP", "readers", "one", "STREAMS", "k", ">"],
    &["XACK", "k", "readers", "1-1", "2-1"],
    &["XDEL", "k", "3-1"],
    &["XTRIM", "k", "MAXLEN", "1"],
];

fn send(world: &mut TestServer, client: Token, argv: &[&[u8]]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", argv.len()).into_bytes();
    for arg in argv {
        request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        request.extend_from_slice(arg);
        request.extend_from_slice(b"\r\n");
    }
    world.send(client, &request);
    world.receive(client)
}

/// The payloads to begin with: of all types, and old ones.
fn payloads(world: &mut TestServer, client: Token) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = old_payloads().into_iter().map(|old| old.0).collect();
    let mut dump = |world: &mut TestServer| {
        let reply = send(world, client, &[b"DUMP", b"k"]);
        let head = reply.iter().position(|&b| b == b'\n').expect("a bulk") + 1;
        all.push(reply[head..reply.len() - 2].to_vec());
        world.call(client, &["DEL", "k"]);
    };
    for argv in VALUES {
        world.call(client, argv);
        dump(world);
    }
    for i in 1..30 {
        let field = if i % 7 == 0 { "other" } else { "field" };
        world.call(client, &["XADD", "k", &format!("{i}-1"), field, "value"]);
    }
    world.call(client, &["XGROUP", "CREATE", "k", "readers", "0"]);
    let take = [
        "XREADGROUP",
        "GROUP",
        "readers",
        "one",
        "COUNT",
        "5",
        "STREAMS",
        "k",
        ">",
    ];
    world.call(client, &take);
    world.call(client, &["XDEL", "k", "2-1", "9-1"]);
    dump(world);
    for i in 0..40 {
        world.call(client, &["RPUSH", "k", &"long ".repeat(i)]);
    }
    dump(world);
    all
}

fn damage(payload: &mut Vec<u8>, rng: &mut Rng) {
    let body = payload.len() - 10;
    for _ in 0..1 + rng.index(3) {
        let at = rng.index(body);
        match rng.index(6) {
            0..=2 => payload[at] ^= 1 << rng.index(8),
            3 => payload[at] = [0, 1, 0x7f, 0x80, 0xc3, 0xff][rng.index(6)],
            4 => payload.insert(at, rng.below(256) as u8),
            _ => payload[at] = payload[rng.index(body)],
        }
    }
}

#[test]
fn damaged_payloads_are_refused_or_used() {
    let mut config = debuggable();
    config.dir = "/data".into();
    config.hash_max_listpack_entries = 6;
    config.set_max_listpack_entries = 6;
    config.zset_max_listpack_entries = 6;
    config.list_max_listpack_size = 8;
    let mut world = world_with(config);
    let client = world.connect();
    let payloads = payloads(&mut world, client);
    world.call(client, &["DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", "1"]);
    let mut rng = Rng::new(7);
    let mut taken = 0;
    for round in 0..4000 {
        let mut payload = payloads[round % payloads.len()].clone();
        damage(&mut payload, &mut rng);
        let deep = if rng.index(2) == 0 { "no" } else { "yes" };
        world.call(client, &["CONFIG", "SET", "sanitize-dump-payload", deep]);
        let reply = send(
            &mut world,
            client,
            &[b"RESTORE", b"k", b"0", &payload, b"REPLACE"],
        );
        if reply != b"+OK\r\n" {
            let reply = String::from_utf8_lossy(&reply).into_owned();
            assert!(
                reply.starts_with("-ERR Bad data format"),
                "{reply} {payload:?}"
            );
            continue;
        }
        taken += 1;
        let reload = ["DEBUG", "RELOAD"];
        let digest = world.call(client, &["DEBUG", "DIGEST"]);
        assert_eq!(world.call(client, &reload), "+OK\r\n", "{payload:?}");
        assert_eq!(
            world.call(client, &["DEBUG", "DIGEST"]),
            digest,
            "{payload:?}"
        );
        for argv in USES {
            let reply = world.call(client, argv);
            assert!(!reply.is_empty(), "{argv:?} {payload:?}");
        }
        assert_eq!(world.call(client, &reload), "+OK\r\n", "{payload:?}");
        world.call(client, &["FLUSHALL"]);
    }
    assert!((400..3600).contains(&taken), "{taken} taken");
}
