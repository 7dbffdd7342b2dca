//! What has to be true, looked at from outside with eyes everywhere.
//!
//! All that any node appends to a stream is noted once, by the stream's ID: whoever began the stream says what its bytes are,
//! and what any other node appends under that ID has to be the same bytes at the same offsets. A stream begins with some data
//! (those of the node that began it) and often within another stream, whose past it shares:
//!
//! ```text
//! P  ────────────────┬──────────  what the old master still wrote alone
//!                    └───────── X  what the promoted replica wrote
//!                   fork
//! ```
//! So the data at any offset of any stream can be had by running the stream on what it began with, on a server apart, and
//! a node that claims to be at a place of a stream is held against that.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::admin::digest;
use crate::base::planted;
use crate::config::Config;
use crate::db::keyspace::Databases;
use crate::exec::conn::Token;
use crate::object::ValueRef;
use crate::object::list::{End as ListEnd, Item};
use crate::repl::history::Step;
use crate::server::bio::Lane;
use crate::server::test_disk::TestDisk;
use crate::server::test_io::{TestIo, TestServer};

use super::clients::Talk;
use super::world::{Check, MS, World};

/// A place is kept to run the stream on from after so many bytes.
const MARK_BYTES: i64 = 8 * 1024;

/// The list to which a client appends its numbers.
pub fn log_key(client: usize) -> String {
    format!("log:{client}")
}

/// Data at an offset, and the database that the stream had selected there.
struct Mark {
    offset: i64,
    db: i32,
    dbs: Databases,
}

/// A server that runs a stream, and how far it is.
struct Runner {
    server: TestServer,
    client: Token,
    offset: i64,
}

/// A stream by its ID.
struct Stream {
    /// Who says what is in it: node and boot.
    owner: (usize, u64),
    /// The stream that it came out of, and the last offset that both have.
    parent: Option<(String, i64)>,
    /// Offset of the first of the bytes.
    first: i64,
    bytes: Vec<u8>,
    /// Oldest first. None as long as the stream is not known to have data.
    marks: Vec<Mark>,
    runner: Option<Box<Runner>>,
}

impl Stream {
    fn end(&self) -> i64 {
        self.first + self.bytes.len() as i64 - 1
    }
}

/// What WAIT has promised: a client's number is with these nodes.
struct Confirmed {
    client: usize,
    number: u64,
    id: String,
    offset: i64,
    /// Node, boot, and how often it had been given other data.
    with: Vec<(usize, u64, u64)>,
}

/// What is known of a node.
#[derive(Default)]
struct Known {
    boot: u64,
    /// How often it was given all data anew.
    adoptions: u64,
    /// How far it has come in each stream, ever; and since it started or was given other data.
    applied: BTreeMap<String, i64>,
    holds: BTreeMap<String, i64>,
    /// It keeps the end of a stream, and so its place in it.
    keeps: bool,
    /// Stream and offset at the last look, of this boot.
    last: Option<(String, i64)>,
}

/// See the head of the file.
pub struct Checks {
    streams: BTreeMap<String, Stream>,
    nodes: Vec<Known>,
    confirmed: Vec<Confirmed>,
    /// How often each check had something to look at.
    pub looks: BTreeMap<&'static str, u64>,
}

impl Checks {
    /// Of so many nodes, of which nothing is known yet.
    pub fn new(nodes: usize) -> Checks {
        Checks {
            streams: BTreeMap::new(),
            nodes: (0..nodes).map(|_| Known::default()).collect(),
            confirmed: Vec::new(),
            looks: BTreeMap::new(),
        }
    }

    /// A server starts.
    pub fn booted(&mut self, at: usize, boot: u64) {
        self.nodes[at].boot = boot;
        self.nodes[at].last = None;
        self.nodes[at].holds.clear();
    }

    /// It is no more.
    pub fn crashed(&mut self, at: usize) {
        self.nodes[at].last = None;
    }

    pub fn looked(&mut self, what: &'static str) {
        *self.looks.entry(what).or_default() += 1;
    }

    /// Bytes were appended at a node. Why not, if they should not have been.
    fn appended(&mut self, at: usize, id: &str, first: i64, bytes: &[u8]) -> Result<(), String> {
        let boot = self.nodes[at].boot;
        if !self.streams.contains_key(id) {
            self.streams
                .insert(id.into(), Stream::new((at, boot), first));
        }
        let (mut offset, mut rest) = (first, bytes);
        while !rest.is_empty() {
            let there = self.known_bytes(id, offset);
            if there.is_empty() {
                break;
            }
            let n = there.len().min(rest.len());
            if let Some(wrong) = (0..n).find(|&i| there[i] != rest[i]) {
                return Err(format!(
                    "n{at} has other bytes at {}:{}: {:?}, and not {:?}",
                    short(id),
                    offset + wrong as i64,
                    shown(&rest[wrong..]),
                    shown(&there[wrong..]),
                ));
            }
            offset += n as i64;
            rest = &rest[n..];
        }
        self.looked("bytes");
        if !rest.is_empty() {
            let Some(stream) = self.streams.get_mut(id) else {
                return Ok(());
            };
            if stream.owner != (at, boot) || stream.end() + 1 != offset {
                return Err(format!(
                    "n{at} has bytes at {}:{offset} that nobody has said, its end being {}: {:?}",
                    short(id),
                    stream.end(),
                    shown(rest)
                ));
            }
            stream.bytes.extend_from_slice(rest);
        }
        self.applied(at, id, first + bytes.len() as i64 - 1);
        Ok(())
    }

    fn applied(&mut self, at: usize, id: &str, offset: i64) {
        let Known { applied, holds, .. } = &mut self.nodes[at];
        for places in [applied, holds] {
            let place = places.entry(id.into()).or_insert(offset);
            *place = offset.max(*place);
        }
    }

    /// What is known of a stream from an offset on, some of it.
    fn known_bytes(&self, id: &str, offset: i64) -> &[u8] {
        let Some(stream) = self.streams.get(id) else {
            return &[];
        };
        if offset < stream.first
            && let Some((parent, fork)) = &stream.parent
        {
            let most = usize::try_from(fork + 1 - offset).unwrap_or(0);
            let bytes = self.known_bytes(parent, offset);
            return &bytes[..bytes.len().min(most)];
        }
        let skip = usize::try_from(offset - stream.first).ok();
        skip.and_then(|skip| stream.bytes.get(skip..))
            .unwrap_or(&[])
    }

    /// The stream in which a place is, going back as far as need be.
    fn home_of(&self, id: &str, offset: i64) -> Option<String> {
        let stream = self.streams.get(id)?;
        match (stream.marks.first(), &stream.parent) {
            (Some(root), _) if root.offset <= offset => Some(id.into()),
            (_, Some((parent, fork))) if offset <= *fork => self.home_of(parent, offset),
            _ => None,
        }
    }

    /// Runs a stream to an offset; the data there, if it can be known.
    fn data_at(&mut self, id: &str, offset: i64) -> Option<&mut TestServer> {
        let home = self.home_of(id, offset)?;
        let stream = self.streams.get_mut(&home)?;
        let planted = planted::plant(None);
        let there = stream.run_to(offset);
        planted::plant(planted);
        there
    }
}

impl Stream {
    fn new(owner: (usize, u64), first: i64) -> Stream {
        Stream {
            owner,
            parent: None,
            first,
            bytes: Vec::new(),
            marks: Vec::new(),
            runner: None,
        }
    }

    fn run_to(&mut self, offset: i64) -> Option<&mut TestServer> {
        if offset > self.end().max(self.marks.first()?.offset) {
            return None;
        }
        if self.runner.as_ref().is_none_or(|r| r.offset > offset) {
            let mark = self.marks.iter().rev().find(|m| m.offset <= offset)?;
            self.runner = Some(Box::new(Runner::from(mark)));
        }
        let runner = self.runner.as_mut()?;
        let from = usize::try_from(runner.offset + 1 - self.first).ok()?;
        let to = usize::try_from(offset + 1 - self.first).ok()?;
        runner.run(self.bytes.get(from..to)?);
        runner.offset = offset;
        if self
            .marks
            .last()
            .is_some_and(|m| m.offset + MARK_BYTES <= offset)
        {
            self.marks.push(runner.mark());
        }
        Some(&mut runner.server)
    }
}

impl Runner {
    fn from(mark: &Mark) -> Runner {
        let config = Config {
            save: Vec::new(),
            ..Config::default()
        };
        let mut server = TestServer::new(config);
        // In its time nothing expires: the stream says what does.
        server.io().clock.set_unix_us(1_000_000);
        server.server.dbs = copy(&mark.dbs);
        let client = server.connect();
        server.call(client, &["SELECT", &mark.db.to_string()]);
        Runner {
            server,
            client,
            offset: mark.offset,
        }
    }

    fn run(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.server.send(self.client, bytes);
            self.server.receive(self.client);
        }
    }

    fn mark(&self) -> Mark {
        let session = self
            .server
            .server
            .conns
            .get(self.client)
            .map(|c| &c.session);
        Mark {
            offset: self.offset,
            db: session.map_or(0, |s| s.db as i32),
            dbs: copy(&self.server.server.dbs),
        }
    }
}

/// The same data; what both have is shared.
fn copy(dbs: &Databases) -> Databases {
    let mut to = dbs.fresh();
    for (index, db) in dbs.iter().enumerate() {
        for entry in db.iter() {
            let hash = to.hash(entry.key());
            to.db_mut(index as u32).insert(hash, entry.clone());
        }
    }
    to
}

fn short(id: &str) -> &str {
    id.get(..6).unwrap_or(id)
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned()
}

/// True if data has a number of a client.
fn has_number(dbs: &Databases, client: usize, number: u64) -> bool {
    let key = log_key(client);
    let db = dbs.db(0);
    let Some(entry) = db.get(dbs.hash(key.as_bytes()), key.as_bytes()) else {
        return false;
    };
    let ValueRef::List(list) = entry.value() else {
        return false;
    };
    let mut found = false;
    list.walk(0, ListEnd::Tail, |item| {
        let is_it = match item {
            Item::Elem(elem) => {
                elem.text(&mut itoa::Buffer::new()) == number.to_string().as_bytes()
            }
            Item::Whole(text) => text == number.to_string().as_bytes(),
        };
        found |= is_it;
        match is_it {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    found
}

/// What data are the same by: the digest, which only tells that a key will expire, and when each does.
fn print_of(dbs: &Databases) -> (digest::Digest, u64) {
    let mut expiries = 0;
    for (index, db) in dbs.iter().enumerate() {
        for entry in db.iter() {
            if let Some(at_ms) = entry.expiry_ms() {
                let seed = at_ms.rotate_left(20) ^ index as u64;
                let mixed =
                    |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
                expiries ^= entry.key().iter().fold(seed, mixed);
            }
        }
    }
    (digest::of_databases(dbs), expiries)
}

/// The data that a server would begin with on this disk; none if it would not start.
fn load(disk: TestDisk, config: Config) -> Option<Databases> {
    let io = TestIo {
        disk,
        ..TestIo::default()
    };
    let mut server = TestServer::played(config, 1, io);
    server.load().ok()?;
    server.turn();
    while server.server.loading && server.busy_lanes().contains(&Lane::Load) {
        server.run_lane(Lane::Load);
        server.turn();
    }
    let ready = !server.server.loading;
    ready.then(|| copy(&server.server.dbs))
}

/// The keys in which data differ, some of them.
fn differences(a: &Databases, b: &Databases) -> String {
    let mut keys = BTreeMap::new();
    for (index, _) in a.iter().enumerate() {
        let db = index as u32;
        let names = a.db(db).iter().chain(b.db(db).iter());
        for entry in names {
            let key = entry.key();
            let of = |dbs: &Databases| {
                let entry = dbs.db(db).get(dbs.hash(key), key);
                let expires = entry.and_then(|e| e.expiry_ms());
                (
                    entry.is_some(),
                    digest::of_value(entry).to_string(),
                    expires,
                )
            };
            let (here, there) = (of(a), of(b));
            if here != there {
                let side = |s: &(bool, String, Option<u64>)| match s.0 {
                    true => format!("{} {:?}", &s.1[..8], s.2),
                    false => "nothing".into(),
                };
                let name = format!("{db}/{}", String::from_utf8_lossy(key));
                keys.insert(name, format!("{} for {}", side(&here), side(&there)));
            }
        }
    }
    let some: Vec<String> = keys
        .iter()
        .take(6)
        .map(|(k, v)| format!("{k}: {v}"))
        .collect();
    format!("{} keys differ: {}", keys.len(), some.join("; "))
}

impl World {
    /// What a turn of a node has done to its history.
    pub fn check_turn(&mut self, at: usize) {
        let Some(server) = &mut self.nodes[at].server else {
            return;
        };
        let steps = match &mut server.server.repl.history.steps {
            Some(steps) => std::mem::take(steps),
            None => return,
        };
        let (mut parted, mut adopted) = (false, false);
        for step in steps {
            match step {
                Step::Appended { id, first, bytes } => {
                    if let Err(why) = self.checks.appended(at, &id, first, &bytes) {
                        return self.fail(Check::Bytes, why);
                    }
                }
                Step::Adopted { id, offset } => {
                    self.note(&format!("n{at} has all data of {}:{offset}", short(&id)));
                    self.note_adopted(at);
                    adopted = true;
                    self.checks.nodes[at].adoptions += 1;
                    self.checks.nodes[at].holds.clear();
                    self.checks.applied(at, &id, offset);
                }
                Step::Parted => parted = true,
            }
        }
        self.note_given_up(at);
        self.register(at, parted);
        self.check_offset(at, adopted);
        if parted {
            self.check_promoted(at);
        }
        if parted || adopted || self.nodes[at].look_at <= self.now_ns {
            let pause = 200 * MS + self.rng.below(1500 * MS);
            self.nodes[at].look_at = self.now_ns + pause;
            self.check_state(at);
        }
    }

    /// A replica that makes way for other data gives up its place in the stream, and what it has confirmed with it.
    fn note_given_up(&mut self, at: usize) {
        let Some(server) = &self.nodes[at].server else {
            return;
        };
        let keeps = server.server.repl.history.backlog().is_some();
        let known = &mut self.checks.nodes[at];
        if known.keeps && !keeps {
            known.adoptions += 1;
            known.holds.clear();
        }
        known.keeps = keeps;
    }

    /// A stream that is new begins with what its node has.
    fn register(&mut self, at: usize, parted: bool) {
        let Some(server) = &self.nodes[at].server else {
            return;
        };
        let repl = &server.server.repl;
        let history = &repl.history;
        if history.backlog().is_none() {
            return;
        }
        let id = history.id().to_string();
        let boot = self.checks.nodes[at].boot;
        let offset = history.offset();
        let known = self.checks.streams.contains_key(&id);
        let new = || Stream::new((at, boot), offset + 1);
        let stream = self.checks.streams.entry(id.clone()).or_insert_with(new);
        if stream.owner != (at, boot) || !stream.marks.is_empty() {
            if parted {
                let why = format!("n{at} was promoted and goes on with {}", short(&id));
                self.fail(Check::Bytes, why);
            }
            return;
        }
        let db = repl.selected.db().unwrap_or(0);
        stream.marks.push(Mark {
            offset,
            db,
            dbs: copy(&server.server.dbs),
        });
        if history.second_offset() > 0 {
            let fork = history.second_offset() - 1;
            stream.parent = Some((history.id2().to_string(), fork));
        }
        let fork = stream.parent.clone();
        self.note(&format!("n{at} begins {} at {offset}", short(&id)));
        // Nothing was changed yet: what it has is still what the other stream had.
        if let Some((parent, fork)) = fork
            && fork == offset
            && !known
        {
            self.check_claim(at, &parent, fork);
        }
    }

    fn check_offset(&mut self, at: usize, adopted: bool) {
        let Some(server) = &self.nodes[at].server else {
            return;
        };
        let history = &server.server.repl.history;
        let now = (history.id().to_string(), history.offset());
        let last = self.checks.nodes[at].last.replace(now.clone());
        if let Some((id, offset)) = last
            && !adopted
            && id == now.0
            && now.1 < offset
        {
            let why = format!("n{at} was at {}:{offset} and is at {}", short(&id), now.1);
            self.fail(Check::OffsetBack, why);
        }
    }

    /// The place in a stream that a node would tell others it is at.
    fn claim(&self, at: usize) -> Option<(String, i64)> {
        let server = &self.nodes[at].server.as_ref()?.server;
        let receiving = server
            .repl
            .following
            .as_ref()
            .is_some_and(|f| f.sync.as_ref().is_some_and(|s| s.started));
        if server.loading || (receiving && !server.async_loading) {
            return None;
        }
        if server.config.replicaof.is_some() {
            let place = server.repl.following.as_ref()?.link.place()?;
            return Some((place.id.clone(), place.offset));
        }
        let history = &server.repl.history;
        history
            .backlog()
            .map(|_| (history.id().into(), history.offset()))
    }

    /// A node's data is what the stream makes that it says it is at.
    pub fn check_state(&mut self, at: usize) {
        if let Some((id, offset)) = self.claim(at) {
            self.check_claim(at, &id, offset);
        }
    }

    fn check_claim(&mut self, at: usize, id: &str, offset: i64) {
        let Some(server) = &self.nodes[at].server else {
            return;
        };
        let end = self.checks.streams.get(id).map(Stream::end);
        let root = self.checks.home_of(id, offset);
        let Some(there) = self.checks.data_at(id, offset) else {
            if let (Some(end), Some(_)) = (end, root)
                && offset > end
            {
                let why = format!("n{at} is at {}:{offset}, which ends at {end}", short(id));
                self.fail(Check::State, why);
            }
            return;
        };
        let (ours, theirs) = (&server.server.dbs, &there.server.dbs);
        if print_of(ours) != print_of(theirs) {
            let what = differences(ours, theirs);
            let why = format!("n{at} is at {}:{offset}, and {what}", short(id));
            self.trace.drop_log();
            return self.fail(Check::State, why);
        }
        self.trace.drop_log();
        self.checks.looked("state");
    }

    /// A replica was promoted: what it has confirmed is there.
    fn check_promoted(&mut self, at: usize) {
        self.note(&format!("n{at} is promoted"));
        self.checks.looked("promotion");
        let Some(server) = &self.nodes[at].server else {
            return;
        };
        let history = &server.server.repl.history;
        let (id, fork) = (history.id2().to_string(), history.second_offset() - 1);
        let known = &self.checks.nodes[at];
        let here = (at, known.boot, known.adoptions);
        let mut lost = None;
        let mut looks = 0;
        for one in self
            .checks
            .confirmed
            .iter()
            .filter(|c| c.with.contains(&here))
        {
            looks += 1;
            if !has_number(&server.server.dbs, one.client, one.number) {
                lost = Some(format!(
                    "n{at} had {} of client {} by {}:{}, and as a master from {}:{fork} it has not",
                    one.number,
                    one.client,
                    short(&one.id),
                    one.offset,
                    short(&id)
                ));
            }
        }
        *self.checks.looks.entry("failover").or_default() += looks;
        if let Some(why) = lost {
            self.fail(Check::Failover, why);
        }
    }

    /// The nodes that are connected as replicas and count, as often as they do.
    fn replicas_of(&self, at: usize) -> Vec<usize> {
        let node = &self.nodes[at];
        let Some(server) = &node.server else {
            return Vec::new();
        };
        let online = server.server.repl.master.replicas().iter();
        online
            .filter(|r| r.is_online())
            .filter_map(|r| self.conns.get(node.ends.get(&r.token)?))
            .map(|conn| conn.sites[0])
            .collect()
    }

    /// WAIT has replied: so many replicas have applied the client's last write.
    pub fn check_wait(&mut self, at: usize, token: Token, client: usize, talk: &Talk, said: i64) {
        let Some(server) = &self.nodes[at].server else {
            return;
        };
        let id = server.server.repl.history.id().to_string();
        let Some((number, wrote_to)) = talk.wrote.clone() else {
            return;
        };
        if said == 0 || wrote_to != id {
            // It may have been counted in another stream than it was written to.
            return;
        }
        let offset = server.server.conns.get(token).map_or(0, |c| c.written_to);
        // One whose old connection is still there counts twice, as it does with Redis.
        let applied = |n: &usize| {
            self.checks.nodes[*n]
                .applied
                .get(&id)
                .is_some_and(|a| *a >= offset)
        };
        let mut with: Vec<usize> = self.replicas_of(at).into_iter().filter(applied).collect();
        self.note(&format!(
            "client {client} hears WAIT {said} for {number} at n{at}"
        ));
        self.checks.looked("wait");
        if (with.len() as i64) < said {
            let why = format!(
                "n{at} says that {said} replicas have {}:{offset} with {number} of client {client}, and {with:?} do",
                short(&id)
            );
            return self.fail(Check::Wait, why);
        }
        with.sort_unstable();
        with.dedup();
        // One that has said so and was started anew since, which its master does not know, has promised nothing.
        with.retain(|n| {
            self.checks.nodes[*n]
                .holds
                .get(&id)
                .is_some_and(|o| *o >= offset)
        });
        let known = |n: usize| (n, self.checks.nodes[n].boot, self.checks.nodes[n].adoptions);
        let with = with.into_iter().map(known).collect();
        self.checks.confirmed.push(Confirmed {
            client,
            number,
            id,
            offset,
            with,
        });
    }

    /// WAITAOF has replied: so many have it on disk.
    pub fn check_wait_aof(
        &mut self,
        at: usize,
        client: usize,
        talk: &Talk,
        local: i64,
        replicas: i64,
    ) {
        let Some((number, wrote_to)) = talk.wrote.clone() else {
            return;
        };
        let Some(server) = &self.nodes[at].server else {
            return;
        };
        if wrote_to != server.server.repl.history.id() || (local, replicas) == (0, 0) {
            return;
        }
        self.note(&format!(
            "client {client} hears WAITAOF {local} {replicas} for {number} at n{at}"
        ));
        self.checks.looked("waitaof");
        if local > 0 && !self.survives(at, client, number) {
            let why = format!("n{at} says that {number} of client {client} is on its disk");
            return self.fail(Check::WaitAof, why);
        }
        if replicas > 0 {
            let counted = self.replicas_of(at);
            let with: Vec<usize> = counted
                .into_iter()
                .filter(|n| self.survives(*n, client, number))
                .collect();
            if (with.len() as i64) < replicas {
                let why = format!(
                    "n{at} says that {replicas} replicas have {number} of client {client} on disk, and {with:?} do"
                );
                self.fail(Check::WaitAof, why);
            }
        }
    }

    /// Would a node still have a client's number if it lost its power now? Whether its log is still written does not matter:
    /// what it has confirmed may be in either file.
    fn survives(&mut self, at: usize, client: usize, number: u64) -> bool {
        let node = &mut self.nodes[at];
        let (disk, config) = match (&mut node.server, &node.off) {
            (Some(server), _) => (server.io().disk.clone(), server.server.config.clone()),
            (None, Some((io, config))) => (io.disk.clone(), config.clone()),
            (None, None) => return false,
        };
        let survives = [true, false].into_iter().any(|appendonly| {
            let config = Config {
                appendonly,
                ..config.clone()
            };
            let dbs = load(disk.after_crash(), config);
            dbs.is_some_and(|dbs| has_number(&dbs, client, number))
        });
        self.trace.drop_log();
        survives
    }

    /// What a node has and where it is; none if it is not up.
    pub fn place_of(&self, at: usize) -> Option<(String, i64)> {
        let server = &self.nodes[at].server.as_ref()?.server;
        let (digest, expiries) = print_of(&server.dbs);
        let print = format!("{digest}-{expiries:x}");
        Some((print, server.repl.history.offset()))
    }
}
