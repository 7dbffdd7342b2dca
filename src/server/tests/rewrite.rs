//! What a server holds, written as commands and run by another one, is what that one holds.

use std::fmt::Write as _;

use crate::admin::digest;
use crate::aof::rewrite::write_log;
use crate::exec::conn::Token;
use crate::rdb::Progress;
use crate::server::test_io::TestServer;

fn fill(world: &mut TestServer, client: Token) {
    let run = |world: &mut TestServer, line: &str| {
        let argv: Vec<&str> = line.split(' ').collect();
        let reply = world.call(client, &argv);
        assert!(!reply.starts_with('-'), "{line}: {reply}");
    };
    for n in [1, 64, 65, 700] {
        let (mut words, mut pairs, mut ints) = (String::new(), String::new(), String::new());
        for i in 0..n {
            let _ = write!(words, " element-{i}");
            let _ = write!(pairs, " {}.5 {}", i - 9, i * 7 % 640);
            let _ = write!(ints, " {i}");
        }
        run(world, &format!("RPUSH list:{n}{words}"));
        run(world, &format!("SADD set:{n}{words}"));
        run(world, &format!("SADD ints:{n}{ints}"));
        run(world, &format!("ZADD zset:{n}{pairs}"));
        run(world, &format!("HSET hash:{n}{pairs}"));
    }
    for line in [
        "ZADD zset:odd inf a -inf b -0 c 1e300 d 0.1 e 3.3 f 123456789012345678 g",
        "SET int 12345",
        "SETRANGE big 1000000 end",
        "SET expires x PXAT 9999999999999",
        "PEXPIREAT hash:64 8888888888888",
        "SELECT 3",
        "SET three 3",
        "SELECT 0",
        "XADD gone 5-5 a b",
        "XDEL gone 5-5",
        "XGROUP CREATE gone g $",
        "XGROUP CREATE born g 0 MKSTREAM",
    ] {
        run(world, line);
    }
    for i in 1..300 {
        run(world, &format!("XADD stream {}-{} f {i} g x", i / 2, i % 2));
    }
    for line in [
        "XDEL stream 100-1 149-1",
        "XTRIM stream MAXLEN 250",
        "XGROUP CREATE stream readers 0",
        "XGROUP CREATE stream late $ ENTRIESREAD 7",
        "XGROUP CREATECONSUMER stream readers idle",
        "XREADGROUP GROUP readers one COUNT 12 STREAMS stream >",
        "XREADGROUP GROUP readers two COUNT 3 STREAMS stream >",
        "XCLAIM stream readers two 0 26-1 RETRYCOUNT 9",
    ] {
        run(world, line);
    }
}

#[test]
fn commands_make_the_same_data() {
    let mut world = TestServer::default();
    let client = world.connect();
    fill(&mut world, client);
    let (snapshot, progress) = (world.server.dbs.snapshot(), Progress::default());
    let (log, _) = write_log(Vec::new(), snapshot, [].into_iter(), None, &progress).unwrap();
    let mut again = TestServer::default();
    let reader = again.connect();
    again.send(reader, &log);
    let replies = String::from_utf8_lossy(&again.receive(reader)).into_owned();
    let error = replies.lines().find(|line| line.starts_with('-'));
    assert_eq!(error, None);
    for argv in [&["SELECT", "0"][..], &["DBSIZE"]] {
        assert_eq!(again.call(reader, argv), world.call(client, argv));
    }
    assert_eq!(
        digest::of_databases(&again.server.dbs),
        digest::of_databases(&world.server.dbs)
    );
    for stream in ["stream", "gone", "born"] {
        let mut about = [&mut world, &mut again].map(|world| {
            let client = world.connect();
            world.call(client, &["XINFO", "STREAM", stream, "FULL", "COUNT", "0"])
        });
        // A consumer that is claimed for has never been active; how the nodes are cut is nobody's business.
        for text in &mut about {
            let lines: Vec<&str> = text.split("\r\n").collect();
            let mut kept = Vec::new();
            let mut skip = 0;
            for line in lines {
                match line {
                    "active-time" | "radix-tree-keys" | "radix-tree-nodes" => skip = 1,
                    _ if skip > 0 => skip -= 1,
                    _ => kept.push(line),
                }
            }
            *text = kept.join(" ");
        }
        assert_eq!(about[0], about[1], "{stream}");
    }
}
