//! Replicas of all kinds against the machine, and what it says is to be done with them.

use super::*;

/// A master, and what it looks at.
struct World {
    master: Master,
    history: History,
    rng: Rng,
    config: Config,
    now_s: u64,
    under_way: UnderWay,
}

impl World {
    fn new(config: Config) -> World {
        let mut rng = Rng::new(3);
        World {
            master: Master::default(),
            history: History::new(&mut rng, config.repl_backlog_size),
            rng,
            config,
            now_s: 1000,
            under_way: UnderWay::Nothing,
        }
    }

    fn with<T>(&mut self, f: impl FnOnce(&mut Master, &mut Moment<'_>) -> T) -> T {
        let mut moment = Moment {
            now_s: self.now_s,
            history: &mut self.history,
            rng: &mut self.rng,
            config: &self.config,
            under_way: self.under_way,
        };
        f(&mut self.master, &mut moment)
    }

    /// A modern replica asks, and what is done about it.
    fn ask(&mut self, n: usize, id: &str, from: i64) -> Vec<String> {
        let said = self.master.announced(Token(n));
        (said.port, said.eof, said.psync2) = (7000 + n as i64, true, true);
        let id = id.as_bytes();
        let request = Request::Psync { id, from };
        let (_, actions) = self.with(|m, at| m.ask(Token(n), "10.0.0.1", request, at));
        told(actions)
    }

    /// A second passes.
    fn second(&mut self) -> Vec<String> {
        self.now_s += 1;
        told(self.with(|m, at| m.every_second(at, Restraint::default())))
    }

    fn begun(&mut self, streamed: bool) -> Vec<String> {
        self.under_way = match streamed {
            true => UnderWay::Stream,
            false => UnderWay::File,
        };
        let parts = Parts::default();
        told(self.with(|m, at| m.begun(Plan { streamed, parts }, at)))
    }

    fn stage(&self, n: usize) -> &'static str {
        self.master
            .replica(Token(n))
            .map_or("none", |r| r.stage.name())
    }
}

/// Actions in words.
fn told(actions: Vec<Action>) -> Vec<String> {
    let word = |action| match action {
        Action::Send(Token(n), bytes) => format!("{n}<{}", bytes.escape_ascii()),
        Action::Feed(bytes) => format!("feed {}", bytes.escape_ascii()),
        Action::Begin(plan) => format!("begin {}", plan.streamed),
        Action::Close(Token(n)) => format!("close {n}"),
        Action::Free(_) => "free".to_string(),
    };
    actions.into_iter().map(word).collect()
}

fn diskless(delay_s: u64) -> Config {
    Config {
        repl_diskless_sync: true,
        repl_diskless_sync_delay: delay_s,
        ..Config::default()
    }
}

#[test]
fn one_stream_of_data_serves_all_who_came_within_the_delay() {
    let mut world = World::new(diskless(3));
    assert_eq!(world.ask(1, "?", -1), Vec::<String>::new());
    assert!(world.history.backlog().is_some());
    let ping = "feed *1\\r\\n$4\\r\\nPING\\r\\n";
    assert_eq!(world.second(), [ping, "1<\\n"], "a sign of life");
    world.history.append(b"0123456789");
    assert_eq!(world.ask(2, "?", -1), Vec::<String>::new());
    assert_eq!(world.second(), ["1<\\n", "2<\\n"]);
    assert_eq!(world.second(), ["1<\\n", "2<\\n", "begin true"]);
    let id = world.history.id().to_string();
    let full = |n: usize| format!("{n}<+FULLRESYNC {id} 10\\r\\n");
    assert_eq!(world.begun(true), [full(1), full(2)]);
    // Who comes now waits for the next one; the others need no signs of life any more.
    assert_eq!(world.ask(3, "?", -1), Vec::<String>::new());
    assert_eq!(world.second(), ["3<\\n"]);
    world.history.append(b"meanwhile");
    for n in [1, 2] {
        assert!(!world.master.sent(Token(n), world.now_s, &world.config));
        assert_eq!(world.stage(n), "online");
    }
    // Silent until it has found the end of the data.
    assert!(!world.master.replica(Token(1)).unwrap().flows());
    world.master.acked(Token(1), 10, None, world.now_s);
    assert!(world.master.replica(Token(1)).unwrap().flows());
    assert_eq!(world.history.backlog().unwrap().unread(Token(1)), 9);
    assert_eq!(
        (world.master.count_acked(10), world.stage(3)),
        (1, "wait_bgsave")
    );
}

#[test]
fn a_file_that_is_being_written_for_one_serves_others_like_it() {
    let mut world = World::new(Config {
        repl_diskless_sync: false,
        ..Config::default()
    });
    assert_eq!(world.ask(1, "?", -1), ["begin false"]);
    let id = world.history.id().to_string();
    assert_eq!(world.begun(false), [format!("1<+FULLRESYNC {id} 0\\r\\n")]);
    world.history.append(b"abc");
    assert_eq!(
        world.ask(2, "?", -1),
        [format!("2<+FULLRESYNC {id} 0\\r\\n")]
    );
    // An old one can less than the one that it was taken for: it waits for the next.
    let (granted, actions) = world.with(|m, at| m.ask(Token(3), "::1", Request::Sync, at));
    assert_eq!(
        (granted, actions.len()),
        (Granted::Full { failed: false }, 0)
    );
    assert_eq!(world.master.written(), [Token(1), Token(2)]);
    assert_eq!(
        [world.stage(1), world.stage(3)],
        ["send_bulk", "wait_bgsave"]
    );
    assert!(!world.master.sent(Token(1), world.now_s, &world.config));
    assert!(world.master.replica(Token(1)).unwrap().flows());
    world.under_way = UnderWay::Nothing;
    world.second();
    // Its snapshot fails.
    world.begun(false);
    assert_eq!(world.master.failed(false), [Token(3)]);
}

#[test]
fn who_comes_back_goes_on_where_it_was() {
    let mut world = World::new(diskless(0));
    assert_eq!(world.ask(1, "?", -1), ["begin true"]);
    world.begun(true);
    world.master.sent(Token(1), world.now_s, &world.config);
    world.history.append(b"0123456789");
    let history = &mut world.history;
    assert!(world.master.gone(Token(1), 1000, history).is_some());
    let id = world.history.id().to_string();
    world.under_way = UnderWay::Nothing;
    assert_eq!(world.ask(1, &id, 4), [format!("1<+CONTINUE {id}\\r\\n")]);
    assert_eq!(world.history.backlog().unwrap().unread(Token(1)), 7);
    // One that does not know of IDs that change is not told of any.
    let id = id.as_bytes();
    let request = Request::Psync { id, from: 11 };
    let (granted, actions) = world.with(|m, at| m.ask(Token(2), "::1", request, at));
    assert_eq!(
        (granted, told(actions)),
        (Granted::Partial, vec!["2<+CONTINUE\\r\\n".into()])
    );
    let request = Request::Psync { id, from: 12 };
    let (granted, _) = world.with(|m, at| m.ask(Token(3), "::1", request, at));
    assert_eq!(granted, Granted::Full { failed: true });
}

#[test]
fn the_silent_and_the_stuck_are_dropped() {
    let mut world = World::new(diskless(0));
    world.ask(1, "?", -1);
    world.ask(2, "?", -1);
    world.begun(true);
    world.master.sent(Token(1), world.now_s, &world.config);
    world.master.is_stuck(Token(2), Some(0), world.now_s);
    world.config.min_replicas_to_write = 1;
    world.master.count_good(world.now_s, &world.config);
    assert!(!world.master.too_few(&world.config));
    let closed = |world: &mut World| {
        let mut actions = world.second();
        actions.retain(|action| action.starts_with("close"));
        actions
    };
    for _ in 0..world.config.repl_timeout {
        assert!(closed(&mut world).is_empty());
    }
    assert!(
        world.master.too_few(&world.config),
        "it has not been heard of for long"
    );
    assert_eq!(closed(&mut world), ["close 1", "close 2"]);
    // Alone for long enough, nobody will come back.
    for n in [1, 2] {
        world.master.gone(Token(n), world.now_s, &mut world.history);
    }
    let id = world.history.id().to_string();
    world.under_way = UnderWay::Nothing;
    for _ in 0..world.config.repl_backlog_ttl {
        assert_eq!(world.second(), Vec::<String>::new());
    }
    assert_eq!(world.second(), ["free"]);
    assert!(world.history.backlog().is_none() && world.history.id() != id);
}

#[test]
fn names_as_the_log_has_them() {
    let mut said = Announced::default();
    assert_eq!(name(&said, "10.0.0.1"), "10.0.0.1:<unknown-replica-port>");
    said.port = 7000;
    assert_eq!(name(&said, "10.0.0.1"), "10.0.0.1:7000");
    assert_eq!(name(&said, "::1"), "[::1]:7000");
    said.ip = Some("a.example".into());
    assert_eq!(name(&said, "::1"), "a.example:7000");
}
