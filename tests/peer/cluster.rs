//! Nodes of a cluster: a random mix of commands on keys that are here, elsewhere, nowhere or on their way, alone, in
//! transactions and in scripts. Both servers have the same map of slots, in which the other nodes are only names.

use std::sync::Arc;

use redstart::base::rng::Rng;
use redstart::base::slot::Slot;
use redstart::resp::value::Value;

use crate::node::{Conn, Node, directory, our_program, peer_program, wait_until};
use crate::random::seed;

const ME: &str = "1111111111111111111111111111111111111111";
const OTHER: &str = "2222222222222222222222222222222222222222";
const ROUNDS: usize = 1500;
const PIPELINE: usize = 20;

/// Tags of keys, by where their slots are.
struct Map {
    here: Vec<String>,
    leaving: Vec<String>,
    coming: Vec<String>,
    elsewhere: Vec<String>,
    nowhere: Vec<String>,
}

impl Map {
    fn new() -> Map {
        let mut tags = (0..).map(|i| format!("{{t{i}}}"));
        let mut some = |n| tags.by_ref().take(n).collect();
        Map {
            here: some(4),
            leaving: some(3),
            coming: some(3),
            elsewhere: some(2),
            nowhere: some(2),
        }
    }

    fn slots<'a>(tags: impl Iterator<Item = &'a String>) -> String {
        let slots = tags.map(|tag| format!(" {}", Slot::of(tag.as_bytes())));
        slots.collect()
    }

    /// The nodes file of a node that is a master of some slots, or a replica of the one that has the others.
    fn file(&self, port: u16, replica: bool) -> String {
        let ours = match replica {
            true => String::new(),
            false => Map::slots(self.here.iter().chain(&self.leaving)),
        };
        let theirs = match replica {
            true => Map::slots(self.here.iter().chain(&self.coming)),
            false => Map::slots(self.elsewhere.iter().chain(&self.coming)),
        };
        let mark = |arrow: &str, tags: &[String]| -> String {
            let mark = |tag: &String| format!(" [{}-{arrow}-{OTHER}]", Slot::of(tag.as_bytes()));
            match replica {
                true => String::new(),
                false => tags.iter().map(mark).collect(),
            }
        };
        let (leaving, coming) = (mark(">", &self.leaving), mark("<", &self.coming));
        let role = match replica {
            true => format!("myself,slave {OTHER}"),
            false => "myself,master -".to_string(),
        };
        format!(
            "{ME} 127.0.0.1:{port}@{} {role} 0 0 1 connected{ours}{leaving}{coming}\n\
             {OTHER} 127.0.0.1:7777@17777 master - 0 0 2 connected{theirs}\n\
             vars currentEpoch 2 lastVoteEpoch 0\n",
            port + 10000
        )
    }

    /// A tag, as likely here as anywhere else.
    fn any<'a>(&'a self, rng: &mut Rng) -> &'a str {
        let all = [
            &self.here,
            &self.here,
            &self.leaving,
            &self.coming,
            &self.elsewhere,
            &self.nowhere,
        ];
        let of = all[rng.below(all.len() as u64) as usize];
        &of[rng.below(of.len() as u64) as usize]
    }
}

/// A node that has such a map, once it serves.
fn start(program: &str, map: &Map, replica: bool, options: &[&str]) -> Node {
    let dir = directory();
    std::fs::write(dir.path().join("nodes.conf"), map.file(6379, replica)).unwrap();
    let all = [
        "--cluster-enabled",
        "yes",
        "--cluster-require-full-coverage",
        "no",
        "--cluster-node-timeout",
        "1000000000",
    ];
    let node = Node::start_in(Arc::clone(&dir), program, &[&all, options].concat());
    let mut conn = node.connect();
    wait_until("the cluster serves", || {
        let info = conn.call(&["CLUSTER", "INFO"]);
        let info = String::from_utf8_lossy(info.as_bytes().unwrap_or_default()).into_owned();
        info.contains("cluster_state:ok")
    });
    node
}

/// Requests: K, J and L stand for keys of one tag, F for one of any, S for a slot.
const LINES: &[&str] = &[
    "GET K",
    "SET K v",
    "GETDEL K",
    "MGET K J",
    "MGET K K",
    "MGET K F",
    "MSET K 1 J 2",
    "MSET K 1 F 2",
    "MSETNX K 1 J 2",
    "DEL K J",
    "DEL K",
    "UNLINK K J L",
    "EXISTS K J",
    "TOUCH K F",
    "RENAME K J",
    "RENAMENX K F",
    "COPY K J",
    "COPY K F",
    "COPY K J DB 0",
    "MOVE K 1",
    "SELECT 1",
    "SELECT 0",
    "SELECT x",
    "SWAPDB 0 1",
    "OBJECT ENCODING K",
    "TYPE K",
    "STRLEN K",
    "APPEND K x",
    "EXPIRE K 1000",
    "PERSIST K",
    "BITOP NOT K J",
    "BITOP OR K J F",
    "PFADD Kp a b",
    "PFMERGE Kp Jp Lp",
    "PFCOUNT Kp Fp",
    "RPUSH Kl a b c",
    "LMPOP 2 Kl Jl LEFT",
    "LMPOP 1 Fl LEFT",
    "LMOVE Kl Jl LEFT RIGHT",
    "RPOPLPUSH Kl Fl",
    "BLPOP Kl Jl 0.001",
    "BLPOP Fl 0.001",
    "SORT Kl ALPHA STORE Jl",
    "SORT Kl ALPHA STORE Fl",
    "SORT Kl BY nosort GET x*",
    "SORT Kl BY x*",
    "SORT_RO Kl ALPHA",
    "SADD Ks a b",
    "SINTERCARD 2 Ks Js",
    "SUNIONSTORE Ks Js Ls",
    "ZADD Kz 1 a 2 b",
    "ZUNIONSTORE Kz 2 Jz Lz",
    "ZUNIONSTORE Kz 2 Jz Fz",
    "ZUNION 2 Kz Jz",
    "ZUNION 2 Kz",
    "ZRANGESTORE Kz Jz 0 -1",
    "ZMPOP 2 Kz Jz MIN",
    "GEOADD Kg 13 38 a 15 37 b",
    "GEORADIUS Kg 15 37 200 km STORE Jg",
    "GEORADIUS Kg 15 37 200 km STORE Fg",
    "GEOSEARCHSTORE Jg Kg FROMLONLAT 15 37 BYRADIUS 200 km ASC",
    "XADD Kx 1-1 a b",
    "XREAD STREAMS Kx Jx 0 0",
    "XREAD COUNT 1 STREAMS Kx Fx 0 0",
    "XGROUP CREATE Kx g 0 MKSTREAM",
    "XREADGROUP GROUP g c STREAMS Kx >",
    "XINFO STREAM Kx FULL COUNT x",
    "RESTORE K 0 garbage",
    "RESTORE-ASKING K 0 garbage",
    "MIGRATE 127.0.0.1 1 K 0 10",
    "MIGRATE 127.0.0.1 1 E 0 10 KEYS K J",
    "MIGRATE 127.0.0.1 1 E 0 10 KEYS K F",
    "WATCH K",
    "WATCH K F",
    "UNWATCH",
    "MULTI",
    "MULTI",
    "EXEC",
    "EXEC",
    "EXEC",
    "DISCARD",
    "ASKING",
    "ASKING",
    "ASKING",
    "READONLY",
    "READWRITE",
    "RESET",
    "PING",
    "DBSIZE",
    "SUNSUBSCRIBE K",
    "PUBLISH c m",
    "PUBSUB SHARDCHANNELS",
    "CLUSTER KEYSLOT K",
    "CLUSTER COUNTKEYSINSLOT S",
    "CLUSTER COUNTKEYSINSLOT 16384",
    "CLUSTER COUNTKEYSINSLOT x",
    "CLUSTER GETKEYSINSLOT S 100",
    "CLUSTER GETKEYSINSLOT S 0",
    "CLUSTER GETKEYSINSLOT S -1",
    "CLUSTER GETKEYSINSLOT -1 1",
    "WAIT 0 0",
    "REPLICAOF 127.0.0.1 1",
    "REPLICAOF NO ONE",
    "FLUSHALL",
    "get",
    "nosuch K",
    "FCALL read 1 K",
    "FCALL read 2 K F",
    "FCALL write 1 K",
    "FCALL_RO read 1 K",
    "FCALL alone 0",
    "FCALL across 1 K F",
];

const SCRIPTS: &[&str] = &[
    "return redis.call('get', KEYS[1])",
    "return redis.call('set', KEYS[1], 'x')",
    "return redis.call('get', ARGV[1])",
    "return redis.pcall('set', ARGV[1], 'x')",
    "redis.call('get', KEYS[1]) return redis.call('mget', ARGV[1], KEYS[1])",
    "return redis.call('exists', ARGV[1], ARGV[2])",
    "redis.call('get', ARGV[1]) return redis.pcall('get', ARGV[2])",
    "return redis.call('ping')",
];

const HEADS: &[&str] = &[
    "",
    "",
    "#!lua\n",
    "#!lua flags=no-writes\n",
    "#!lua flags=allow-cross-slot-keys\n",
    "#!lua flags=no-cluster\n",
];

const LIBRARY: &str = "#!lua name=l\n\
    redis.register_function{function_name='read', callback=function(k, a) return redis.call('get', k[1]) end, flags={'no-writes'}}\n\
    redis.register_function('write', function(k, a) return redis.call('set', k[1], 'x') end)\n\
    redis.register_function{function_name='alone', callback=function(k, a) return 1 end, flags={'no-cluster'}}\n\
    redis.register_function{function_name='across', callback=function(k, a)\n\
    redis.call('get', k[1]) return redis.call('get', a[1] or '{t0}') end, flags={'allow-cross-slot-keys'}}\n";

/// A request, drawn.
fn request(rng: &mut Rng, map: &Map) -> Vec<String> {
    let tag = map.any(rng).to_string();
    if rng.below(6) == 0 {
        return script(rng, map, &tag);
    }
    let line = LINES[rng.index(LINES.len())];
    let words = line.split(' ').map(|word| {
        let rest = &word[1..];
        match word.as_bytes()[0] {
            _ if rest.len() > 1 => word.into(),
            b'K' | b'J' | b'L' => format!("{tag}{word}"),
            b'F' => format!("{}{word}", map.any(rng)),
            b'S' if rest.is_empty() => Slot::of(map.any(rng).as_bytes()).to_string(),
            b'E' if rest.is_empty() => String::new(),
            _ => word.into(),
        }
    });
    words.collect()
}

/// A call of a script, whose keys are declared or are not.
fn script(rng: &mut Rng, map: &Map, tag: &str) -> Vec<String> {
    let command = ["EVAL", "EVAL", "EVAL_RO"][rng.index(3)];
    let text = [
        HEADS[rng.index(HEADS.len())],
        SCRIPTS[rng.index(SCRIPTS.len())],
    ];
    let keys = ["0", "1", "1", "2"][rng.index(4)];
    let mut words = vec![command.to_string(), text.concat(), keys.to_string()];
    for name in ["K", "J", "F", "K"] {
        let tag = match rng.below(4) {
            0 => map.any(rng),
            _ => tag,
        };
        words.push(format!("{tag}{name}"));
    }
    words
}

/// A reply without what a server decides on its own: the order of keys.
fn settled(request: &[String], reply: Value) -> Value {
    let any_order = matches!(request[0].as_str(), "CLUSTER" | "PUBSUB");
    match reply {
        Value::Array(mut items) if any_order => {
            items.sort_by_key(|item| item.as_bytes().map(<[u8]>::to_vec));
            Value::Array(items)
        }
        reply => reply,
    }
}

fn shown(reply: &Value) -> String {
    match reply {
        Value::Error(text) | Value::Status(text) => String::from_utf8_lossy(text).into_owned(),
        other => format!("{other:?}"),
    }
}

fn run(replica: bool, rounds: usize, options: &[&str]) {
    let map = Map::new();
    let nodes = [our_program(), peer_program()].map(|p| start(&p, &map, replica, options));
    let mut conns = nodes.each_ref().map(Node::connect);
    for conn in &mut conns {
        conn.call(&["FUNCTION", "LOAD", LIBRARY]);
    }
    let seed = seed();
    let mut rng = Rng::new(seed);
    let (mut redirected, mut ran) = (0, 0);
    for round in 0..rounds {
        let requests: Vec<_> = (0..PIPELINE).map(|_| request(&mut rng, &map)).collect();
        for conn in &mut conns {
            for request in &requests {
                conn.send(request);
            }
        }
        let mut before: Vec<String> = Vec::new();
        for request in &requests {
            let replies = conns.each_mut().map(Conn::reply);
            let [ours, theirs] = replies.map(|reply| settled(request, reply));
            assert!(
                ours == theirs,
                "seed {seed}, round {round}: {request:?} after {before:#?}\n  ours:   {}\n  theirs: {}",
                shown(&ours),
                shown(&theirs)
            );
            match &ours {
                Value::Error(text) if text.starts_with(b"MOVED") || text.starts_with(b"ASK") => {
                    redirected += 1;
                }
                reply if !reply.is_error() => ran += 1,
                _ => {}
            }
            before.push(request.join(" "));
        }
    }
    let all = rounds * PIPELINE;
    assert!(
        redirected > all / 20 && ran > all / 10,
        "{redirected} {ran} of {all}"
    );
}

#[test]
fn a_master_serves_and_redirects_alike() {
    run(false, ROUNDS, &[]);
}

#[test]
fn a_replica_serves_and_redirects_alike() {
    run(true, ROUNDS / 5, &["--replica-serve-stale-data", "yes"]);
}
