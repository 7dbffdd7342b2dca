//! Client-side caching (CLIENT TRACKING): which clients have read which keys, so that they can be told when a key changes.
//!
//! A client that tracks is remembered with every key that its reading commands name. A change of a key tells all who are
//! remembered with it, once, and forgets them: who reads it again is remembered again. The table may hold so many keys
//! (`tracking-table-max-keys`); beyond that keys drawn by lot are told of as if they had changed, and forgotten. What is
//! remembered is a client's number, so that nothing has to be searched when it goes: numbers of those who are gone, or
//! track no more, stay until the key changes.
//!
//! In broadcasting mode nothing is remembered of what a client reads: it names prefixes, and hears of every change of a
//! key that begins with one. Those changes are gathered until the loop is about to sleep.
//!
//! Commands note each key that they change in the unit ([`crate::cmd::unit::Unit::touched`]), and only while somebody
//! tracks. [`Server::tell_trackers`] tells of them when the command is through; its own client hears of them last, after
//! its reply.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ahash::RandomState;
use smallvec::SmallVec;

use crate::base::rng::Rng;
use crate::cmd::Args;
use crate::cmd::session::{Marks, Session};
use crate::cmd::spec::{Flags, Group};
use crate::exec::conn::Token;
use crate::exec::server::Server;
use crate::exec::table::{CommandId, Table, keys_of};
use crate::resp::reply::Reply;

/// The channel on which a RESP2 client hears what is redirected to it.
const CHANNEL: &[u8] = b"__redis__:invalidate";
/// So many keys are forgotten at once when there are too many, times the number of tries that were not enough.
const EFFORT: usize = 100;

/// All marks of a session that tracks.
const MARKS: Marks = Marks::TRACKING
    .or(Marks::TRACKING_BCAST)
    .or(Marks::TRACKING_OPTIN)
    .or(Marks::TRACKING_OPTOUT)
    .or(Marks::TRACKING_CACHING)
    .or(Marks::TRACKING_NOLOOP)
    .or(Marks::TRACKING_BROKEN);

/// A client that tracks.
#[derive(Debug)]
struct Tracker {
    token: Token,
    redirect: Option<Redirect>,
    /// What it broadcasts to.
    prefixes: BTreeSet<Box<[u8]>>,
    /// What these take.
    bytes: usize,
}

/// What a prefix takes beside its name, here and in the table of prefixes.
const PREFIX_BYTES: usize = 96;

/// Who hears in a client's place.
#[derive(Clone, Copy, Debug)]
pub struct Redirect {
    pub id: u64,
    pub token: Token,
}

/// Numbers of clients, in order.
type Ids = SmallVec<[u64; 2]>;

/// Who has read a key, and where in [`Keys::order`] it is.
#[derive(Debug)]
struct Readers {
    ids: Ids,
    at: usize,
}

/// The keys that were read, found by name and by lot.
#[derive(Debug)]
struct Keys {
    readers: HashMap<Arc<[u8]>, Readers, RandomState>,
    order: Vec<Arc<[u8]>>,
    /// Readers of all keys together.
    items: usize,
}

impl Keys {
    fn new(hasher: RandomState) -> Keys {
        Keys {
            readers: HashMap::with_hasher(hasher),
            order: Vec::new(),
            items: 0,
        }
    }

    fn remember(&mut self, key: &[u8], id: u64) {
        let readers = match self.readers.get_mut(key) {
            Some(readers) => readers,
            None => {
                let name: Arc<[u8]> = key.into();
                let at = self.order.len();
                self.order.push(name.clone());
                let ids = Ids::new();
                self.readers.entry(name).or_insert(Readers { ids, at })
            }
        };
        if let Err(at) = readers.ids.binary_search(&id) {
            readers.ids.insert(at, id);
            self.items += 1;
        }
    }

    /// Takes a key out: who has read it.
    fn forget(&mut self, key: &[u8]) -> Option<Ids> {
        let Readers { ids, at } = self.readers.remove(key)?;
        self.items -= ids.len();
        self.order.swap_remove(at);
        // The last one has taken its place.
        let moved = self.order.get(at);
        if let Some(moved) = moved.and_then(|key| self.readers.get_mut(key)) {
            moved.at = at;
        }
        Some(ids)
    }
}

/// Who broadcasts to a prefix, and what has changed since they were told.
#[derive(Debug, Default)]
struct Prefix {
    clients: BTreeSet<u64>,
    /// The keys, each with the client that changed it last.
    changed: BTreeMap<Box<[u8]>, Option<u64>>,
}

/// See the head of the file.
#[derive(Debug)]
pub struct Tracking {
    trackers: BTreeMap<u64, Tracker>,
    keys: Keys,
    prefixes: BTreeMap<Box<[u8]>, Prefix>,
    /// What the client whose command runs will be told when everything else is said; `None` stands for all keys.
    own: Vec<Option<Box<[u8]>>>,
    /// Tries in a row that did not bring the table below its limit.
    tries: usize,
}

impl Tracking {
    /// Nobody tracks; the hash of names is keyed with `seed`.
    pub fn new(seed: u64) -> Tracking {
        Tracking {
            trackers: BTreeMap::new(),
            keys: Keys::new(RandomState::with_seeds(seed, !seed, 2, 3)),
            prefixes: BTreeMap::new(),
            own: Vec::new(),
            tries: 0,
        }
    }

    /// How many clients track.
    pub fn clients(&self) -> usize {
        self.trackers.len()
    }

    /// How many keys are remembered, for how many clients in all, and how many prefixes there are.
    pub fn totals(&self) -> (usize, usize, usize) {
        (self.keys.order.len(), self.keys.items, self.prefixes.len())
    }

    /// True if changes of keys have to be noted.
    fn is_used(&self) -> bool {
        !self.trackers.is_empty() || !self.keys.order.is_empty()
    }

    /// The number of the client that hears in a client's place, 0 for itself; `None` if it does not track.
    pub fn redirect_of(&self, id: u64) -> Option<u64> {
        let tracker = self.trackers.get(&id)?;
        Some(tracker.redirect.map_or(0, |redirect| redirect.id))
    }

    /// The prefixes that a client broadcasts to.
    pub fn prefixes_of(&self, id: u64) -> impl Iterator<Item = &[u8]> {
        let tracker = self.trackers.get(&id);
        tracker
            .into_iter()
            .flat_map(|t| t.prefixes.iter().map(|p| &p[..]))
    }

    /// Bytes that the prefixes of a client take.
    pub fn prefixes_memory(&self, id: u64) -> usize {
        self.trackers.get(&id).map_or(0, |tracker| tracker.bytes)
    }

    fn unlink_prefixes(&mut self, id: u64, prefixes: &BTreeSet<Box<[u8]>>) {
        for name in prefixes {
            if let Some(prefix) = self.prefixes.get_mut(name) {
                prefix.clients.remove(&id);
                if prefix.clients.is_empty() {
                    self.prefixes.remove(name);
                }
            }
        }
    }

    /// Notes a change for those who broadcast.
    fn note_changed(&mut self, key: &[u8], by: Option<u64>) {
        for (name, prefix) in &mut self.prefixes {
            if key.starts_with(name) {
                prefix.changed.insert(key.into(), by);
            }
        }
    }

    fn any_key(&self, rng: &mut Rng) -> Option<Arc<[u8]>> {
        let order = &self.keys.order;
        (!order.is_empty()).then(|| order[rng.index(order.len())].clone())
    }
}

/// What a client is told to forget.
enum Stale<'a> {
    Key(&'a [u8]),
    /// These keys, as an array in RESP.
    Keys(&'a [u8]),
    /// Everything.
    All,
}

impl Server {
    /// A client begins to track, or goes on in another way. `mode` are the marks of its options.
    pub fn track(
        &mut self,
        token: Token,
        mode: Marks,
        redirect: Option<Redirect>,
        prefixes: &[&[u8]],
    ) {
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        let session = &mut conn.session;
        let caching = session.marks.has(Marks::TRACKING_CACHING);
        session.marks.set(MARKS, false);
        session.marks.set(mode | Marks::TRACKING, true);
        session.marks.set(Marks::TRACKING_CACHING, caching);
        let id = session.id;
        let tracker = self.tracking.trackers.entry(id).or_insert(Tracker {
            token,
            redirect: None,
            prefixes: BTreeSet::new(),
            bytes: 0,
        });
        tracker.redirect = redirect;
        if mode.has(Marks::TRACKING_BCAST) {
            let everything: &[&[u8]] = &[b""];
            let names = if prefixes.is_empty() {
                everything
            } else {
                prefixes
            };
            for &name in names {
                if tracker.prefixes.insert(name.into()) {
                    tracker.bytes += 2 * name.len() + PREFIX_BYTES;
                }
                let prefix = self.tracking.prefixes.entry(name.into()).or_default();
                prefix.clients.insert(id);
            }
        }
        self.unit.tracked = true;
    }

    /// A client tracks no more.
    pub fn stop_tracking(&mut self, token: Token) {
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        if !conn.session.marks.has(Marks::TRACKING) {
            return;
        }
        conn.session.marks.set(MARKS, false);
        let id = conn.session.id;
        if let Some(tracker) = self.tracking.trackers.remove(&id) {
            self.tracking.unlink_prefixes(id, &tracker.prefixes);
        }
        self.unit.tracked = self.tracking.is_used();
    }

    /// Remembers the keys that a command has read for a client that tracks.
    #[cold]
    pub(super) fn note_read(&mut self, token: Token, id: CommandId, args: &Args<'_>) {
        let reader = self.current.unwrap_or(token);
        let Some(conn) = self.conns.get(reader) else {
            return;
        };
        let marks = conn.session.marks;
        let caching = marks.has(Marks::TRACKING_CACHING);
        let left_out = (marks.has(Marks::TRACKING_OPTIN) && !caching)
            || (marks.has(Marks::TRACKING_OPTOUT) && caching);
        let command = self.table.get(id);
        if !marks.has(Marks::TRACKING)
            || marks.has(Marks::TRACKING_BCAST)
            || left_out
            || command.flags.has(Flags::PUBSUB)
            || command.spec.group == Group::Scripting
        {
            return;
        }
        let client = conn.session.id;
        for key in keys_of(command, args.argv()).unwrap_or_default() {
            if let Some(key) = args.argv().get(key.pos) {
                self.tracking.keys.remember(key, client);
            }
        }
        self.limit_tracking();
    }

    /// How many keys are remembered beyond what should be (`tracking-table-max-keys`).
    pub fn tracking_excess(&self) -> usize {
        match self.config.tracking_table_max_keys {
            0 => 0,
            most => self.tracking.keys.order.len().saturating_sub(most),
        }
    }

    /// Forgets keys if too many are remembered; their readers are told so.
    pub fn limit_tracking(&mut self) {
        let excess = self.tracking_excess();
        if excess == 0 {
            self.tracking.tries = 0;
            return;
        }
        let effort = EFFORT * (self.tracking.tries + 1);
        for _ in 0..excess.min(effort) {
            if let Some(key) = self.tracking.any_key(&mut self.rng) {
                self.tell_readers(&key, None);
            }
        }
        match excess > effort {
            true => self.tracking.tries += 1,
            false => self.tracking.tries = 0,
        }
    }

    /// Tells who is to know of the keys that were changed since the last time. `by`: whose command changed them.
    #[cold]
    pub fn tell_trackers(&mut self, by: Option<Token>) {
        let by = by
            .and_then(|token| self.conns.get(token))
            .map(|c| c.session.id);
        let touched = std::mem::take(&mut self.unit.touched);
        for key in &touched {
            if !self.tracking.prefixes.is_empty() {
                self.tracking.note_changed(key, by);
            }
            self.tell_readers(key, by);
        }
        self.unit.tracked = self.tracking.is_used();
    }

    /// A key has changed, or is to be forgotten: its readers are told, and forgotten themselves.
    fn tell_readers(&mut self, key: &[u8], by: Option<u64>) {
        for id in self.tracking.keys.forget(key).unwrap_or_default() {
            let Some(tracker) = self.tracking.trackers.get(&id) else {
                continue;
            };
            let marks = self.conns.get(tracker.token).map(|c| c.session.marks);
            let Some(marks) = marks.filter(|m| !m.has(Marks::TRACKING_BCAST)) else {
                continue;
            };
            match by == Some(id) {
                true if marks.has(Marks::TRACKING_NOLOOP) => {}
                true => self.tracking.own.push(Some(key.into())),
                false => self.send_stale(id, Stale::Key(key)),
            }
        }
    }

    /// All keys are gone (FLUSHALL, FLUSHDB, other data): everybody forgets everything.
    pub fn tell_flushed(&mut self) {
        if !self.unit.tracked {
            return;
        }
        let trackers = self.tracking.trackers.iter();
        let trackers: Vec<(u64, Token)> = trackers.map(|(&id, t)| (id, t.token)).collect();
        for (id, token) in trackers {
            match self.current == Some(token) {
                true => self.tracking.own.push(None),
                false => self.send_stale(id, Stale::All),
            }
        }
        let hasher = self.tracking.keys.readers.hasher().clone();
        let keys = std::mem::replace(&mut self.tracking.keys, Keys::new(hasher));
        let count = keys.order.len();
        if count > 0 {
            self.free_later_told(Box::new((keys.order, keys.readers)), count, false);
        }
        self.unit.tracked = self.tracking.is_used();
    }

    /// True if the client whose command ran has something to hear of it.
    #[inline]
    pub(super) fn has_own_stale(&self) -> bool {
        !self.tracking.own.is_empty()
    }

    /// Tells a client what its own command has changed of what it has read: after the reply, and after all messages that
    /// came of the command.
    #[cold]
    pub(super) fn tell_own(&mut self, token: Token) {
        let own = std::mem::take(&mut self.tracking.own);
        let Some(id) = self.conns.get(token).map(|conn| conn.session.id) else {
            return;
        };
        for key in &own {
            let stale = key.as_deref().map_or(Stale::All, Stale::Key);
            self.send_stale(id, stale);
        }
    }

    /// Tells those who broadcast what has changed. Before the loop sleeps, so that many changes are one message.
    pub fn broadcast_changes(&mut self) {
        if self.tracking.prefixes.is_empty() {
            return;
        }
        let changed: Vec<_> = self
            .tracking
            .prefixes
            .values_mut()
            .filter(|prefix| !prefix.changed.is_empty())
            .map(|prefix| (prefix.clients.clone(), std::mem::take(&mut prefix.changed)))
            .collect();
        for (clients, changed) in changed {
            let all = array_of(changed.keys());
            for id in clients {
                let tracker = self.tracking.trackers.get(&id);
                let conn = tracker.and_then(|tracker| self.conns.get(tracker.token));
                let Some(conn) = conn else { continue };
                if !conn.session.marks.has(Marks::TRACKING_NOLOOP) {
                    self.send_stale(id, Stale::Keys(&all));
                    continue;
                }
                let others = changed.iter().filter(|(_, by)| **by != Some(id));
                let others: Vec<_> = others.map(|(key, _)| key).collect();
                if !others.is_empty() {
                    let others = array_of(others.into_iter());
                    self.send_stale(id, Stale::Keys(&others));
                }
            }
        }
    }

    /// Tells a client, or who hears in its place, to forget something. Only RESP3 has messages that come unasked; in RESP2
    /// they come to a subscriber, if they are redirected to one.
    fn send_stale(&mut self, id: u64, stale: Stale<'_>) {
        let Some(&Tracker {
            token, redirect, ..
        }) = self.tracking.trackers.get(&id)
        else {
            return;
        };
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        // Redis says "null" in the words of who tracks, even to another.
        let null: &[u8] = if conn.reply.is_resp3() {
            b"_\r\n"
        } else {
            b"$-1\r\n"
        };
        let to = match redirect {
            None => token,
            Some(redirect) => {
                let is_there = |token| {
                    self.conns.get(token).is_some_and(|c| {
                        c.session.id == redirect.id && !c.session.marks.has(Marks::CLOSE_ASAP)
                    })
                };
                if !is_there(redirect.token) {
                    return self.tell_broken(token, redirect.id);
                }
                redirect.token
            }
        };
        let Some(conn) = self.conns.get(to) else {
            return;
        };
        let (resp3, hears) = (
            conn.reply.is_resp3(),
            redirect.is_some() && conn.session.subscribed(),
        );
        if !resp3 && !hears {
            return;
        }
        self.push_to(to, |reply| {
            if resp3 {
                reply.push(2);
                reply.bulk(b"invalidate");
            } else {
                reply.push(3);
                reply.bulk(b"message");
                reply.bulk(CHANNEL);
            }
            match stale {
                Stale::Key(key) => {
                    reply.array(1);
                    reply.bulk(key);
                }
                Stale::Keys(array) => reply.raw(array),
                Stale::All => reply.raw(null),
            }
        });
    }

    /// Nobody hears in this client's place any more.
    fn tell_broken(&mut self, token: Token, redirect: u64) {
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        conn.session.marks.set(Marks::TRACKING_BROKEN, true);
        if conn.reply.is_resp3() {
            self.push_to(token, |reply| {
                reply.push(2);
                reply.bulk(b"tracking-redir-broken");
                reply.int(redirect as i64);
            });
        }
    }
}

/// What CLIENT CACHING or ASKING said held for one command, which is through. (They are none, and a transaction is one.)
#[cold]
pub(super) fn end_announced(session: &mut Session, table: &Table) {
    let last = session
        .last_command
        .map_or("", |id| table.get(id).spec.name);
    if session.multi.is_some() {
        return;
    }
    if !last.starts_with("client|") {
        session.marks.set(Marks::TRACKING_CACHING, false);
    }
    if last != "asking" {
        session.marks.set(Marks::ASKING, false);
    }
}

/// These keys as an array in RESP.
fn array_of<'a>(keys: impl ExactSizeIterator<Item = &'a Box<[u8]>>) -> Vec<u8> {
    let mut reply = Reply::new();
    reply.array(keys.len());
    for key in keys {
        reply.bulk(key);
    }
    reply.to_vec()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;
    use crate::server::test_io::TestServer;

    proptest! {
        #[test]
        fn the_table_agrees_with_a_model(steps in vec((0..3u8, 0..12u8, 0..6u64), 1..200)) {
            let mut keys = Keys::new(RandomState::with_seeds(1, 2, 3, 4));
            let mut model: BTreeMap<u8, BTreeSet<u64>> = BTreeMap::new();
            for (step, key, id) in steps {
                if step < 2 {
                    keys.remember(&[key], id);
                    model.entry(key).or_default().insert(id);
                } else {
                    let ids = keys.forget(&[key]).map(|ids| ids.to_vec());
                    prop_assert_eq!(ids, model.remove(&key).map(|ids| ids.into_iter().collect::<Vec<_>>()));
                }
                prop_assert_eq!(keys.order.len(), model.len());
                prop_assert_eq!(keys.items, model.values().map(BTreeSet::len).sum::<usize>());
                for (at, key) in keys.order.iter().enumerate() {
                    prop_assert_eq!(keys.readers[key].at, at);
                    prop_assert!(model.contains_key(&key[0]));
                }
            }
        }
    }

    struct Scene {
        world: TestServer,
        me: Token,
        other: Token,
    }

    impl Scene {
        /// Two clients: one speaks RESP3 and is about to track, the other changes things.
        fn new(config: Config) -> Scene {
            let mut world = TestServer::new(config);
            let (me, other) = (world.connect(), world.connect());
            world.call(me, &["HELLO", "3"]);
            Scene { world, me, other }
        }

        fn say(&mut self, who: Token, words: &str) -> String {
            self.world.call(who, &words.split(' ').collect::<Vec<_>>())
        }

        fn mine(&mut self, words: &str) -> String {
            self.say(self.me, words)
        }

        /// What reaches the first client when the other one says this.
        fn told_of(&mut self, words: &str) -> String {
            self.say(self.other, words);
            String::from_utf8(self.world.receive(self.me)).unwrap()
        }

        fn totals(&self) -> (usize, usize, usize) {
            self.world.server.tracking.totals()
        }
    }

    fn stale(key: &str) -> String {
        format!(
            ">2\r\n$10\r\ninvalidate\r\n*1\r\n${}\r\n{key}\r\n",
            key.len()
        )
    }

    const ALL_STALE: &str = ">2\r\n$10\r\ninvalidate\r\n_\r\n";

    #[test]
    fn who_reads_a_key_hears_of_its_change_once() {
        let mut scene = Scene::new(Config::default());
        scene.mine("CLIENT TRACKING on");
        scene.mine("MGET a b");
        assert_eq!(scene.totals(), (2, 2, 0));
        assert_eq!(scene.told_of("MSET a 1 c 1"), stale("a"));
        assert_eq!(scene.told_of("SET a 2"), "");
        // One's own change comes after the reply, in a transaction after all replies.
        assert_eq!(scene.mine("SET b 1"), "+OK\r\n".to_string() + &stale("b"));
        scene.mine("GET b");
        for words in ["MULTI", "SET b 1", "GET b"] {
            scene.mine(words);
        }
        assert_eq!(
            scene.mine("EXEC"),
            "*2\r\n+OK\r\n$1\r\n1\r\n".to_string() + &stale("b")
        );
        assert_eq!(scene.told_of("FLUSHDB"), ALL_STALE);
        assert_eq!(scene.totals(), (0, 0, 0));
        assert_eq!(scene.mine("FLUSHALL"), "+OK\r\n".to_string() + ALL_STALE);
        // Time changes a key as well.
        scene.told_of("SET e 1 PX 10");
        scene.mine("GET e");
        scene.world.advance(Duration::from_secs(1));
        assert_eq!(scene.told_of("PING"), stale("e"));
        scene.mine("GET e");
        scene.mine("CLIENT TRACKING off");
        assert_eq!(scene.told_of("SET e 1"), "");
        assert_eq!(scene.totals(), (0, 0, 0));
        assert!(!scene.world.server.unit.tracked);
    }

    #[test]
    fn caching_is_said_for_one_command() {
        let mut scene = Scene::new(Config::default());
        scene.mine("CLIENT TRACKING on OPTIN NOLOOP");
        scene.mine("GET a");
        assert_eq!(scene.told_of("SET a 1"), "");
        scene.mine("CLIENT CACHING yes");
        assert!(scene.mine("CLIENT TRACKINGINFO").contains("caching-yes"));
        scene.mine("GET a");
        scene.mine("GET b");
        assert!(!scene.mine("CLIENT TRACKINGINFO").contains("caching-yes"));
        assert_eq!(scene.told_of("MSET a 1 b 1"), stale("a"));
        scene.mine("CLIENT CACHING yes");
        for words in ["MULTI", "GET a", "GET b", "EXEC"] {
            scene.mine(words);
        }
        assert_eq!(scene.mine("SET a 1"), "+OK\r\n");
        assert_eq!(scene.told_of("MSET a 1 b 1"), stale("b"));
        assert!(
            scene
                .mine("CLIENT CACHING no")
                .starts_with("-ERR CLIENT CACHING NO is only")
        );
    }

    #[test]
    fn prefixes_are_told_of_all_changes() {
        let mut scene = Scene::new(Config::default());
        scene.mine("CLIENT TRACKING on BCAST PREFIX ab PREFIX c NOLOOP");
        let overlaps = "-ERR Prefix 'a' overlaps with an existing prefix 'ab'. Prefixes for a single client must not overlap.\r\n";
        assert_eq!(scene.mine("CLIENT TRACKING on BCAST PREFIX a"), overlaps);
        let keys = ">2\r\n$10\r\ninvalidate\r\n*2\r\n$2\r\nab\r\n$3\r\nabc\r\n";
        assert_eq!(scene.told_of("MSET abc 1 ab 1 a 1"), keys);
        assert_eq!(scene.mine("MSET c 1 abc 1"), "+OK\r\n");
        assert_eq!(scene.totals(), (0, 0, 2));
        scene.world.hang_up(scene.me);
        assert_eq!(scene.totals(), (0, 0, 0));
        assert!(!scene.world.server.unit.tracked);
    }

    #[test]
    fn another_may_hear_in_ones_place() {
        let mut scene = Scene::new(Config::default());
        let listener = scene.world.connect();
        scene.say(listener, "SUBSCRIBE __redis__:invalidate");
        let id = scene.world.server.conns.get(listener).unwrap().session.id;
        scene.mine(&format!("CLIENT TRACKING on REDIRECT {id}"));
        scene.mine("GET a");
        assert_eq!(scene.told_of("SET a 1"), "");
        let message = "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\na\r\n";
        assert_eq!(scene.world.receive(listener), message.as_bytes());
        assert!(scene.mine("CLIENT LIST").contains(&format!(" redir={id} ")));
        scene.mine("GET a");
        scene.world.hang_up(listener);
        let broken = format!(">2\r\n$21\r\ntracking-redir-broken\r\n:{id}\r\n");
        assert_eq!(scene.told_of("SET a 1"), broken);
        assert!(scene.mine("CLIENT LIST").contains(" flags=tR "));
    }

    #[test]
    fn a_table_that_is_too_full_forgets_and_says_so() {
        let mut scene = Scene::new(Config {
            tracking_table_max_keys: 2,
            ..Config::default()
        });
        scene.mine("CLIENT TRACKING on");
        scene.mine("MGET a b");
        let reply = scene.mine("MGET c d");
        assert_eq!(reply.matches("invalidate").count(), 2, "{reply}");
        assert_eq!(scene.totals(), (2, 2, 0));
        // A new limit holds from the next command on, even one that is only queued.
        scene.mine("MULTI");
        assert_eq!(scene.told_of("CONFIG SET tracking-table-max-keys 1"), "");
        let reply = scene.mine("PING");
        assert!(
            reply.contains("invalidate") && reply.ends_with("+QUEUED\r\n"),
            "{reply}"
        );
    }
}
