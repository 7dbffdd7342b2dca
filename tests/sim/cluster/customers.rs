//! Clients of a cluster: they know where slots are as far as they were told, and go where they are sent.
//!
//! ```text
//! a batch ─▶ the node that has the slot, as far as one knows ─▶ replies: done
//!                                                           ─▶ MOVED: noted, and once more there
//!                                                           ─▶ ASK: once more there, behind ASKING
//!                                                           ─▶ another error: given up, and what was known of the slot too
//! ```
//! What they write into the logs are numbers that nobody writes twice. Whether a write was done whose reply never came
//! is unknown, and it is not tried again.

use std::collections::BTreeMap;

use crate::base::slot::Slot;
use crate::repl::replica::command;
use crate::resp::value::Value;

use super::super::net::{ConnId, Last, Way};
use super::super::world::{MS, Node, SECOND, World};
use super::checks::Ack;
use super::{LOGS, log_name};

/// How long a customer waits for replies.
const PATIENCE: u64 = 4 * SECOND;
/// How often one is sent on.
const HOPS_MAX: usize = 6;

/// Commands on keys of one slot.
struct Batch {
    words: Vec<Vec<String>>,
    slot: Slot,
    /// The log, and the number that is appended to it.
    log: Option<(usize, u64)>,
    /// The node it is for, and whether ASKING goes before it.
    at: usize,
    asking: bool,
    hops: usize,
    since_ns: u64,
    /// It was sent, and these replies have come.
    sent: bool,
    replies: Vec<Value>,
    /// When the last of them left the server: that is when it said so.
    left_ns: u64,
}

/// A connection to a node.
#[derive(Clone, Copy)]
struct Door {
    id: ConnId,
    is_open: bool,
}

/// See the head of the file.
pub struct Customer {
    doors: Vec<Option<Door>>,
    /// Who has which slot.
    map: BTreeMap<Slot, usize>,
    batch: Option<Batch>,
}

impl Customer {
    /// One who has not called anybody yet, of so many nodes.
    pub fn new(nodes: usize) -> Customer {
        Customer {
            doors: vec![None; nodes],
            map: BTreeMap::new(),
            batch: None,
        }
    }

    fn door_of(&mut self, id: ConnId) -> Option<usize> {
        let is_it = |door: &Option<Door>| door.is_some_and(|door| door.id == id);
        self.doors.iter().position(is_it)
    }
}

impl World {
    /// A customer's turn.
    pub fn shop(&mut self, at: usize) {
        let pause = 10 * MS + self.rng.below(60 * MS);
        self.after(pause, super::super::world::Event::Step(at));
        let Some(batch) = &self.town.customers[at].batch else {
            if self.now_ns < self.plan.writes_until_ns {
                self.begin_batch(at);
            }
            return;
        };
        if self.now_ns - batch.since_ns > PATIENCE {
            let (node, slot) = (batch.at, batch.slot);
            self.town.customers[at].map.remove(&slot);
            self.town.customers[at].batch = None;
            self.slam(at, node);
        }
    }

    fn begin_batch(&mut self, at: usize) {
        let (words, key, log) = self.choose_words(at);
        let slot = Slot::of(key.as_bytes());
        let known = self.town.customers[at].map.get(&slot).copied();
        let node = known.unwrap_or_else(|| self.rng.index(self.nodes.len()));
        let since_ns = self.now_ns;
        self.town.customers[at].batch = Some(Batch {
            words,
            slot,
            log,
            at: node,
            asking: false,
            hops: 0,
            since_ns,
            sent: false,
            replies: Vec::new(),
            left_ns: 0,
        });
        self.send_batch(at);
    }

    /// Commands, their key, and what is appended to a log by them.
    fn choose_words(&mut self, at: usize) -> (Vec<Vec<String>>, String, Option<(usize, u64)>) {
        let log = self.rng.index(LOGS);
        let rng = &mut self.rng;
        let few = rng.below(6);
        let unique = format!("{at}.{}", rng.below(100_000));
        let cmd = |text: String| text.split(' ').map(String::from).collect::<Vec<_>>();
        let (key, text) = match rng.below(20) {
            0..11 => {
                self.town.numbers[log] += 1;
                let number = self.town.numbers[log];
                let key = log_name(log);
                let words = vec![cmd(format!("RPUSH {key} {number}"))];
                return (words, key, Some((log, number)));
            }
            11 | 12 => {
                let key = format!("{{pair:{few}}}a");
                let words = [
                    "MULTI",
                    &format!("INCR {key}"),
                    &format!("INCR {{pair:{few}}}b"),
                    "EXEC",
                ];
                let words = words.into_iter().map(|w| cmd(w.into())).collect();
                return (words, key, None);
            }
            13 => (format!("ctr:{few}"), "INCR $"),
            14 => (format!("k:{few}"), "SET $ % PX 700"),
            15 => (format!("k:{few}"), "SET $ %"),
            16 => (format!("set:{few}"), "SADD $ %"),
            17 => (format!("set:{few}"), "SPOP $"),
            18 => (format!("k:{few}"), "DEL $"),
            _ => {
                let key = format!("big:{few}");
                let big = "x".repeat(200 + rng.index(3000));
                return (vec![cmd(format!("SET {key} {unique}{big}"))], key, None);
            }
        };
        let text = text.replace('$', &key).replace('%', &unique);
        (vec![cmd(text)], key, None)
    }

    /// Sends the batch, if the door is open; else it is called.
    fn send_batch(&mut self, at: usize) {
        let Some(batch) = &self.town.customers[at].batch else {
            return;
        };
        let node = batch.at;
        let door = match self.town.customers[at].doors[node] {
            Some(door) => door,
            None => {
                let id = self.dial_for_client(at, node);
                let door = Door { id, is_open: false };
                self.town.customers[at].doors[node] = Some(door);
                door
            }
        };
        let Some(batch) = &mut self.town.customers[at].batch else {
            return;
        };
        if !door.is_open || batch.sent {
            return;
        }
        batch.sent = true;
        batch.replies.clear();
        let mut bytes = Vec::new();
        if batch.asking {
            bytes.extend(command(&[b"ASKING"]));
        }
        for words in &batch.words {
            let words: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
            bytes.extend(command(&words));
        }
        let expected = batch.words.len() + usize::from(batch.asking);
        if let Some(talk) = self.conns.get_mut(&door.id).and_then(|c| c.talk.as_mut()) {
            talk.expect(expected);
        }
        self.send(door.id, Way::There, bytes, None);
    }

    /// A call was answered.
    pub fn let_in(&mut self, at: usize, id: ConnId) {
        let customer = &mut self.town.customers[at];
        if let Some(node) = customer.door_of(id) {
            customer.doors[node] = Some(Door { id, is_open: true });
            self.send_batch(at);
        }
    }

    /// It was refused, or the connection is over.
    pub fn turned_out(&mut self, at: usize, id: ConnId) {
        let customer = &mut self.town.customers[at];
        let Some(node) = customer.door_of(id) else {
            return;
        };
        customer.doors[node] = None;
        if let Some(batch) = customer.batch.take_if(|batch| batch.at == node) {
            customer.map.remove(&batch.slot);
        }
    }

    /// Hangs up.
    fn slam(&mut self, at: usize, node: usize) {
        if let Some(door) = self.town.customers[at].doors[node].take() {
            self.send(door.id, Way::There, Vec::new(), Some(Last::End));
            self.leave(door.id, 0);
        }
    }

    /// Bytes reach a customer.
    pub fn served(&mut self, at: usize, id: ConnId, bytes: usize, last: Option<Last>) {
        let Some(talk) = self.conns.get_mut(&id).and_then(|c| c.talk.as_mut()) else {
            return;
        };
        let replies = talk.receive(bytes);
        let customer = &mut self.town.customers[at];
        let node = customer.door_of(id);
        if let Some(batch) = &mut customer.batch
            && node == Some(batch.at)
        {
            for (left_ns, reply) in replies {
                batch.left_ns = left_ns;
                batch.replies.push(reply);
            }
            if batch.sent && batch.replies.len() == batch.words.len() + usize::from(batch.asking) {
                self.end_batch(at);
            }
        }
        if last.is_some() {
            self.leave(id, 0);
            self.turned_out(at, id);
        }
    }

    /// All replies are there.
    fn end_batch(&mut self, at: usize) {
        let Some(mut batch) = self.town.customers[at].batch.take() else {
            return;
        };
        let error = batch.replies.iter().find_map(|reply| match reply {
            Value::Error(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        });
        let Some(error) = error else {
            self.town.customers[at]
                .map
                .entry(batch.slot)
                .or_insert(batch.at);
            if let Some((log, number)) = batch.log {
                let (node, at_ns) = (batch.at, batch.left_ns);
                self.town.acked.push(Ack {
                    log,
                    number,
                    node,
                    at_ns,
                });
                self.checks.looked("acked");
            }
            return;
        };
        let words: Vec<&str> = error.split(' ').collect();
        let there = |address: &str| {
            let (ip, _) = address.rsplit_once(':')?;
            (0..self.nodes.len()).find(|n| Node::ip(*n) == ip)
        };
        let sent_to = match words[..] {
            ["MOVED", _, address] => there(address).map(|n| (n, false)),
            ["ASK", _, address] => there(address).map(|n| (n, true)),
            _ => None,
        };
        let customer = &mut self.town.customers[at];
        match sent_to.filter(|_| batch.hops < HOPS_MAX) {
            Some((node, asking)) => {
                if !asking {
                    customer.map.insert(batch.slot, node);
                }
                (batch.at, batch.asking, batch.sent) = (node, asking, false);
                batch.hops += 1;
                customer.batch = Some(batch);
                self.checks
                    .looked(if asking { "asked" } else { "redirected" });
                self.send_batch(at);
            }
            None => {
                customer.map.remove(&batch.slot);
            }
        }
    }
}
