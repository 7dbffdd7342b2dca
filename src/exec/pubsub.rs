//! Publish and subscribe: who listens to which channel, pattern or shard channel, and how a
//! message reaches them.
//!
//! A message is a push: in RESP3 a push type, in RESP2 an array. One for the client whose command
//! is running waits until that command has replied.

use std::collections::{BTreeSet, HashMap};

use ahash::RandomState;
use bytes::Bytes;

use crate::base::glob;
use crate::base::slot::Slot;
use crate::cmd::session::{Marks, Subscriptions};
use crate::exec::conn::{Conn, Token};
use crate::exec::server::Server;
use crate::resp::reply::Reply;

/// What one can subscribe to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Channel,
    Pattern,
    Shard,
}

impl Kind {
    /// The word that begins the confirmation of a subscription.
    fn subscribed(self) -> &'static [u8] {
        match self {
            Kind::Channel => b"subscribe",
            Kind::Pattern => b"psubscribe",
            Kind::Shard => b"ssubscribe",
        }
    }

    /// The word that begins the confirmation of its end.
    fn unsubscribed(self) -> &'static [u8] {
        match self {
            Kind::Channel => b"unsubscribe",
            Kind::Pattern => b"punsubscribe",
            Kind::Shard => b"sunsubscribe",
        }
    }
}

/// Subscribers in the order of their subscriptions. The hash is keyed, so that names made to collide
/// do no harm, and by the server's own numbers, so that the order of patterns can be replayed.
pub type Listeners = HashMap<Bytes, Vec<Token>, RandomState>;

/// All subscriptions.
#[derive(Debug)]
pub struct PubSub {
    pub channels: Listeners,
    pub patterns: Listeners,
    pub shards: Listeners,
    /// The same channels by their slots, on a node of a cluster.
    shard_slots: BTreeSet<(Slot, Bytes)>,
    /// Connections with any subscription, for INFO.
    pub clients: usize,
}

impl PubSub {
    /// None; the hash of names is keyed with `seed`.
    pub fn new(seed: u64) -> Self {
        let listeners = || Listeners::with_hasher(RandomState::with_seeds(seed, !seed, 0, 1));
        PubSub {
            channels: listeners(),
            patterns: listeners(),
            shards: listeners(),
            shard_slots: BTreeSet::new(),
            clients: 0,
        }
    }

    fn table(&mut self, kind: Kind) -> &mut Listeners {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shards,
        }
    }
}

fn own(subs: &mut Subscriptions, kind: Kind) -> &mut BTreeSet<Bytes> {
    match kind {
        Kind::Channel => &mut subs.channels,
        Kind::Pattern => &mut subs.patterns,
        Kind::Shard => &mut subs.shard_channels,
    }
}

/// Subscriptions as the confirmations count them: channels and patterns together, shard channels apart.
fn counted(subs: &Subscriptions, kind: Kind) -> usize {
    match kind {
        Kind::Shard => subs.shard_channels.len(),
        _ => subs.channels.len() + subs.patterns.len(),
    }
}

impl Server {
    /// Subscribes, and confirms it.
    pub fn subscribe(&mut self, token: Token, kind: Kind, channel: &[u8]) {
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        if conn.session.subs.is_none() {
            conn.session.subs = Some(Box::default());
            self.pubsub.clients += 1;
        }
        let Some(subs) = conn.session.subs.as_deref_mut() else {
            return;
        };
        let channel = Bytes::copy_from_slice(channel);
        if own(subs, kind).insert(channel.clone()) {
            if kind == Kind::Shard && self.cluster.is_some() {
                let place = (Slot::of(&channel), channel.clone());
                self.pubsub.shard_slots.insert(place);
            }
            self.pubsub
                .table(kind)
                .entry(channel.clone())
                .or_default()
                .push(token);
        }
        let count = counted(subs, kind);
        confirm(conn, kind.subscribed(), Some(&channel), count);
    }

    /// Unsubscribes, and confirms it even if there was nothing to end.
    pub fn unsubscribe(&mut self, token: Token, kind: Kind, channel: &[u8]) {
        self.forget_subscription(token, kind, channel);
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        let count = conn.session.subs.as_deref().map_or(0, |s| counted(s, kind));
        confirm(conn, kind.unsubscribed(), Some(channel), count);
        self.leave_pubsub(token);
    }

    /// Unsubscribes from everything of a kind; confirms each, or that there was nothing.
    pub fn unsubscribe_all(&mut self, token: Token, kind: Kind) {
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        let all: Vec<Bytes> = conn
            .session
            .subs
            .as_deref_mut()
            .map_or(Vec::new(), |s| own(s, kind).iter().cloned().collect());
        if all.is_empty() {
            let count = conn.session.subs.as_deref().map_or(0, |s| counted(s, kind));
            confirm(conn, kind.unsubscribed(), None, count);
        }
        for channel in all {
            self.unsubscribe(token, kind, &channel);
        }
    }

    /// Ends the subscriptions to all shard channels of a slot, which is another node's now. Who had them is told.
    pub fn leave_shard_channels(&mut self, slot: Slot) {
        let from = (slot, Bytes::new());
        let places = self.pubsub.shard_slots.range(from..);
        let of_slot = places.take_while(|place| place.0 == slot);
        let channels: Vec<Bytes> = of_slot.map(|place| place.1.clone()).collect();
        for channel in channels {
            let listeners = self.pubsub.shards.get(&channel);
            for token in listeners.cloned().unwrap_or_default() {
                self.forget_subscription(token, Kind::Shard, &channel);
                let subs = self
                    .conns
                    .get(token)
                    .and_then(|c| c.session.subs.as_deref());
                let count = subs.map_or(0, |subs| counted(subs, Kind::Shard));
                self.push_to(token, |reply| {
                    let word = Kind::Shard.unsubscribed();
                    confirmation(reply, word, Some(&channel), count);
                });
                self.leave_pubsub(token);
            }
        }
    }

    /// Ends all subscriptions without a word (RESET, a closed connection).
    pub fn pubsub_drop(&mut self, token: Token) {
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            let Some(subs) = self
                .conns
                .get_mut(token)
                .and_then(|c| c.session.subs.as_deref_mut())
            else {
                return;
            };
            let all: Vec<Bytes> = own(subs, kind).iter().cloned().collect();
            for channel in all {
                self.forget_subscription(token, kind, &channel);
            }
        }
        self.leave_pubsub(token);
    }

    fn forget_subscription(&mut self, token: Token, kind: Kind, channel: &[u8]) {
        let Some(subs) = self
            .conns
            .get_mut(token)
            .and_then(|c| c.session.subs.as_deref_mut())
        else {
            return;
        };
        if !own(subs, kind).remove(channel) {
            return;
        }
        let table = self.pubsub.table(kind);
        if let Some(listeners) = table.get_mut(channel) {
            listeners.retain(|&t| t != token);
            if listeners.is_empty() {
                table.remove(channel);
                if kind == Kind::Shard && self.cluster.is_some() {
                    let place = (Slot::of(channel), Bytes::copy_from_slice(channel));
                    self.pubsub.shard_slots.remove(&place);
                }
            }
        }
    }

    fn leave_pubsub(&mut self, token: Token) {
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        if let Some(s) = conn.session.subs.as_deref()
            && s.channels.is_empty()
            && s.patterns.is_empty()
            && s.shard_channels.is_empty()
        {
            conn.session.subs = None;
            self.pubsub.clients -= 1;
        }
    }

    /// Sends a message to all who listen; how many that were.
    pub fn publish(&mut self, channel: &[u8], message: &[u8]) -> usize {
        let mut receivers = self
            .pubsub
            .channels
            .get(channel)
            .cloned()
            .unwrap_or_default();
        for &token in &receivers {
            self.push_to(token, |reply| {
                message_push(reply, b"message", None, channel, message)
            });
        }
        let matching: Vec<(Bytes, Vec<Token>)> = self
            .pubsub
            .patterns
            .iter()
            .filter(|(pattern, _)| glob::matches(pattern, channel))
            .map(|(p, t)| (p.clone(), t.clone()))
            .collect();
        for (pattern, tokens) in matching {
            for &token in &tokens {
                self.push_to(token, |reply| {
                    message_push(reply, b"pmessage", Some(&pattern), channel, message)
                });
            }
            receivers.extend(tokens);
        }
        receivers.len()
    }

    /// The same for a shard channel, which patterns do not see.
    pub fn publish_shard(&mut self, channel: &[u8], message: &[u8]) -> usize {
        let receivers = self.pubsub.shards.get(channel).cloned().unwrap_or_default();
        for &token in &receivers {
            self.push_to(token, |reply| {
                message_push(reply, b"smessage", None, channel, message)
            });
        }
        receivers.len()
    }

    /// Writes a push to a connection: at once, or after the reply of the command it is running.
    pub fn push_to(&mut self, token: Token, write: impl FnOnce(&mut Reply)) {
        let running = self.current == Some(token);
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        if conn
            .session
            .marks
            .has(Marks::CLOSE_ASAP | Marks::CLOSE_AFTER_REPLY)
        {
            return;
        }
        if running {
            let resp = conn.reply.resp();
            write(
                conn.late
                    .get_or_insert_with(|| Box::new(Reply::with_resp(resp))),
            );
            return;
        }
        self.hold_next(token);
        if let Some(conn) = self.conns.get_mut(token) {
            conn.write_push(write);
        }
        self.wants_write(token);
        self.check_output(token);
        self.recount(token);
    }
}

fn confirm(conn: &mut Conn, word: &[u8], channel: Option<&[u8]>, count: usize) {
    conn.write_push(|reply| confirmation(reply, word, channel, count));
}

fn confirmation(reply: &mut Reply, word: &[u8], channel: Option<&[u8]>, count: usize) {
    reply.push(3);
    reply.bulk(word);
    reply.bulk_or_null(channel);
    reply.int(count as i64);
}

fn message_push(
    reply: &mut Reply,
    word: &[u8],
    pattern: Option<&[u8]>,
    channel: &[u8],
    message: &[u8],
) {
    reply.push(if pattern.is_some() { 4 } else { 3 });
    reply.bulk(word);
    if let Some(pattern) = pattern {
        reply.bulk(pattern);
    }
    reply.bulk(channel);
    reply.bulk(message);
}
