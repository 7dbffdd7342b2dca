//! Clients: they write all along, to whom they take for the master, and now and then wait until replicas have it.
//!
//! Each keeps a log of its own in the data, a list to which it appends growing numbers. By it one can tell of any data which
//! of a client's writes it has. The rest of what they write is meant to differ if anything is lost, done twice or done in
//! another order: counters, appended strings, popped elements, and a pair of keys that only ever changes in transactions.
//!
//! What a server replies is overheard as it leaves the server: that is the moment at which what it says has to be true.

use std::collections::VecDeque;

use crate::exec::conn::Token;
use crate::repl::replica::command;
use crate::resp::value::{Decoder, Value};

use super::checks::log_key;
use super::net::{ConnId, End, Last, Way};
use super::world::{Check, Event, MS, SECOND, World};

/// What an answer is awaited to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Other,
    /// The number that was appended to the client's log.
    Logged(u64),
    Wait,
    WaitAof,
}

/// A client's talk with a server.
#[derive(Default)]
pub struct Talk {
    /// Requests whose replies have not left the server.
    asked: VecDeque<Asked>,
    spy: Decoder,
    overheard: Vec<u8>,
    /// The last number of the log that was written here, and the stream that it went into.
    pub wrote: Option<(u64, String)>,
    /// Replies on their way: where each ends among the bytes, and when it left the server.
    replies: VecDeque<(u64, u64, Value)>,
    sent: u64,
    received: u64,
}

impl Talk {
    /// So many commands are on their way, of which only the client has to know what came of them.
    pub fn expect(&mut self, replies: usize) {
        self.asked.extend((0..replies).map(|_| Asked::Other));
    }

    /// So many bytes more have reached the client: the replies that are whole now, and when they left the server.
    pub fn receive(&mut self, bytes: usize) -> Vec<(u64, Value)> {
        self.received += bytes as u64;
        let whole = self
            .replies
            .iter()
            .take_while(|(end, ..)| *end <= self.received);
        let whole = whole.count();
        let whole = self.replies.drain(..whole);
        whole.map(|(_, left_ns, value)| (left_ns, value)).collect()
    }
}

/// See the head of the file.
pub struct Client {
    conn: Option<ConnId>,
    up: bool,
    /// The last number appended to the log.
    number: u64,
    /// Replies that it waits for, and since when.
    waiting: usize,
    since_ns: u64,
    server: usize,
}

impl Client {
    /// One who has not called anybody yet.
    pub fn new() -> Client {
        Client {
            conn: None,
            up: false,
            number: 0,
            waiting: 0,
            since_ns: 0,
            server: 0,
        }
    }
}

/// How long a client waits for replies.
const PATIENCE: u64 = 4 * SECOND;

impl World {
    /// A client's turn.
    pub fn step(&mut self, at: usize) {
        let pause = 10 * MS + self.rng.below(90 * MS);
        self.after(pause, Event::Step(at));
        if self.now_ns >= self.plan.writes_until_ns {
            return;
        }
        let client = &self.clients[at];
        match client.conn {
            None => self.find_server(at),
            Some(id) if client.up && client.waiting == 0 => {
                // It finds out now and then who is the master.
                let moved = client.server != self.plan.master && self.rng.below(10) == 0;
                match moved {
                    true => self.hang_up(at, id),
                    false => self.ask(at, id),
                }
            }
            Some(id) if self.now_ns - client.since_ns > PATIENCE => self.hang_up(at, id),
            Some(_) => {}
        }
    }

    fn find_server(&mut self, at: usize) {
        let there = match self.rng.below(8) {
            0 => self.rng.index(self.nodes.len()),
            _ => self.plan.master,
        };
        let id = self.dial_for_client(at, there);
        let now_ns = self.now_ns;
        let client = &mut self.clients[at];
        client.conn = Some(id);
        client.server = there;
        client.up = false;
        client.since_ns = now_ns;
    }

    /// The call was answered: a client's, or a customer's of a cluster.
    pub fn client_connected(&mut self, at: usize, id: ConnId) {
        match self.town.is_one() {
            true => self.let_in(at, id),
            false => self.connected(at, id),
        }
    }

    /// It was refused, or the connection is over.
    pub fn client_disconnected(&mut self, at: usize, id: ConnId) {
        match self.town.is_one() {
            true => self.turned_out(at, id),
            false => self.disconnected(at, id),
        }
    }

    /// Bytes reach one of them.
    pub fn hear(&mut self, at: usize, id: ConnId, bytes: usize, last: Option<Last>) {
        match self.town.is_one() {
            true => self.served(at, id, bytes, last),
            false => self.heard(at, id, bytes, last),
        }
    }

    /// The call was answered.
    fn connected(&mut self, at: usize, id: ConnId) {
        let client = &mut self.clients[at];
        if client.conn == Some(id) {
            client.up = true;
            client.waiting = 0;
        }
    }

    /// The call was refused, or the connection is over.
    fn disconnected(&mut self, at: usize, id: ConnId) {
        let client = &mut self.clients[at];
        if client.conn == Some(id) {
            client.conn = None;
            client.up = false;
            client.waiting = 0;
        }
    }

    fn hang_up(&mut self, at: usize, id: ConnId) {
        self.send(id, Way::There, Vec::new(), Some(Last::End));
        self.leave(id, 0);
        self.disconnected(at, id);
    }

    /// Sends some commands.
    fn ask(&mut self, at: usize, id: ConnId) {
        let mut bytes = Vec::new();
        let mut asked = Vec::new();
        for _ in 0..1 + self.rng.below(4) {
            if matches!(asked.last(), Some(Asked::Wait | Asked::WaitAof)) {
                // It waits for what it wrote last: nothing may come behind.
                break;
            }
            for words in self.words(at, &mut asked) {
                let words: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
                bytes.extend(command(&words));
            }
        }
        let now_ns = self.now_ns;
        let client = &mut self.clients[at];
        client.waiting = asked.len();
        client.since_ns = now_ns;
        if let Some(talk) = self.conns.get_mut(&id).and_then(|c| c.talk.as_mut()) {
            talk.asked.extend(asked);
        }
        self.send(id, Way::There, bytes, None);
    }

    /// The next thing that a client does, as commands.
    fn words(&mut self, at: usize, asked: &mut Vec<Asked>) -> Vec<Vec<String>> {
        let rng = &mut self.rng;
        let client = &mut self.clients[at];
        let number = client.number + 1;
        let unique = format!("{at}.{number}.{}", rng.below(1000));
        let few = rng.below(5);
        let key = format!("k:{}", rng.below(25));
        let cmd = |text: String| text.split(' ').map(String::from).collect::<Vec<_>>();
        let one = |text: String| vec![cmd(text)];
        let commands = match rng.below(40) {
            0..10 => {
                client.number = number;
                asked.push(Asked::Logged(number));
                let mut all = one(format!("RPUSH {} {number}", log_key(at)));
                let (replicas, ms) = (1 + rng.below(3), 50 + rng.below(1500));
                match rng.below(12) {
                    0..3 => {
                        asked.push(Asked::Wait);
                        all.push(cmd(format!("WAIT {replicas} {ms}")));
                    }
                    3 => {
                        asked.push(Asked::WaitAof);
                        let local = rng.below(2);
                        all.push(cmd(format!("WAITAOF {local} {} {ms}", replicas - 1)));
                    }
                    _ => {}
                }
                return all;
            }
            10..13 => one(format!("INCR ctr:{few}")),
            13..15 => one(format!("APPEND str:{few} {unique},")),
            15..19 => one(format!("SET {key} {unique}")),
            19..21 => one(format!("SET {key} {unique} PX {}", 20 + rng.below(3000))),
            21 => one(format!("PEXPIRE {key} {}", 20 + rng.below(2000))),
            22..26 => {
                let mut all = one("MULTI".into());
                all.push(cmd("INCR pair:a".into()));
                if rng.below(2) == 0 {
                    all.push(cmd(format!("SET {key} {unique}")));
                }
                all.push(cmd("INCR pair:b".into()));
                all.push(cmd("EXEC".into()));
                all
            }
            26 => one(format!("DEL {key} str:{few}")),
            27 => one(format!("SADD set:{few} {unique}")),
            28 => one(format!("SPOP set:{few}")),
            29 => one(format!(
                "HINCRBY hash:{few} f{} {}",
                rng.below(8),
                rng.below(100)
            )),
            30 => one(format!(
                "ZADD zset:{few} {} m{}",
                rng.below(1000),
                rng.below(20)
            )),
            31 => one(format!("ZPOPMIN zset:{few}")),
            32 => one(format!("LPUSH list:{few} {unique}")),
            33 => one(format!("RPOP list:{few}")),
            34 => one(format!("XADD stream:{few} MAXLEN 20 * f {unique}")),
            35 => one(format!("GETEX {key} PX {}", 20 + rng.below(500))),
            36 => {
                let mut all = one("SELECT 1".into());
                all.push(cmd(match rng.below(20) {
                    0 => "FLUSHDB".into(),
                    _ => format!("SET {key} {unique}"),
                }));
                all.push(cmd("SELECT 0".into()));
                all
            }
            37 => {
                let big = "x".repeat(200 + rng.index(3000));
                one(format!("SET big:{few} {unique}{big}"))
            }
            38 => one(format!("GET {key}")),
            _ => one(format!("BLPOP list:{few} 0.0{}", 1 + rng.below(9))),
        };
        asked.extend(commands.iter().map(|_| Asked::Other));
        commands
    }

    /// A server says something to a client.
    pub fn overhear(&mut self, at: usize, token: Token, id: ConnId, bytes: &[u8]) {
        let Some(talk) = self.conns.get_mut(&id).and_then(|c| c.talk.as_mut()) else {
            return;
        };
        let mut talk = std::mem::take(talk);
        talk.overheard.extend_from_slice(bytes);
        loop {
            let (used, value) = match talk.spy.decode(&talk.overheard) {
                Ok(decoded) => decoded,
                Err(e) => return self.fail(Check::Bytes, format!("a reply is none: {e:?}")),
            };
            talk.overheard.drain(..used);
            talk.sent += used as u64;
            let Some(value) = value else { break };
            let Some(asked) = talk.asked.pop_front() else {
                return self.fail(Check::Bytes, format!("a reply to nothing: {value:?}"));
            };
            self.judge(at, token, id, asked, &value, &mut talk);
            talk.replies.push_back((talk.sent, self.now_ns, value));
        }
        if let Some(place) = self.conns.get_mut(&id).and_then(|c| c.talk.as_mut()) {
            *place = talk;
        }
    }

    fn judge(
        &mut self,
        at: usize,
        token: Token,
        id: ConnId,
        asked: Asked,
        value: &Value,
        talk: &mut Talk,
    ) {
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        let End::Client(client) = conn.ends[0] else {
            return;
        };
        match (asked, value) {
            (Asked::Logged(number), Value::Int(_)) => {
                if let Some(server) = &self.nodes[at].server {
                    talk.wrote = Some((number, server.server.repl.history.id().to_string()));
                }
            }
            (Asked::Wait, Value::Int(replicas)) => {
                self.check_wait(at, token, client, talk, *replicas);
            }
            (Asked::WaitAof, Value::Array(both)) => {
                if let [Value::Int(local), Value::Int(replicas)] = both[..] {
                    self.check_wait_aof(at, client, talk, local, replicas);
                }
            }
            _ => {}
        }
    }

    /// Bytes reach a client.
    fn heard(&mut self, at: usize, id: ConnId, bytes: usize, last: Option<Last>) {
        let Some(talk) = self.conns.get_mut(&id).and_then(|c| c.talk.as_mut()) else {
            return;
        };
        let heard = talk.receive(bytes);
        let replies = heard.len();
        let errors = heard.iter().filter(|(_, v)| matches!(v, Value::Error(_)));
        let errors = errors.count();
        let client = &mut self.clients[at];
        if client.conn != Some(id) {
            return;
        }
        client.waiting = client.waiting.saturating_sub(replies);
        if last.is_some() {
            self.leave(id, 0);
            self.disconnected(at, id);
        } else if errors > 0 && client.waiting == 0 {
            // Most likely it is no master, or is loading.
            self.hang_up(at, id);
        }
    }
}
