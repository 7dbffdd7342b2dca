//! The link to a master, as the replica sees it: from the first PING to the stream of commands, and back to the start
//! whenever something breaks.
//!
//! ```text
//! Waiting ──▶ Connecting ──▶ Greeting ──▶ Asking ─┬─ +CONTINUE ───────────────────────────▶ Online
//!    ▲  a tick     connected     PING, AUTH,  PSYNC │                                           ▲
//!    │                           REPLCONF ...       └─ +FULLRESYNC, SYNC ─▶ Receiving ─▶ Loading ┘
//!    │                                                                          │           │
//!    ├───────────── refused, silent, cut off ◀───────────────────┘              └ Stopping ◀┘
//! ```
//! What the link brings is handed to [`Replica::receive`], and [`Replica::tick`] is called about once a second. Both answer
//! with what is to be done ([`Action`]). Up to the stream of commands everything is lines, but for the data of a full sync:
//! these are handed on as they come, and their end is found here, by their length or by the mark behind them.
//!
//! The [`Place`] outlives the link: whoever knows the stream's ID and how much of it was applied asks to go on from
//! there, and may be spared a full sync. So does one who was a master itself, or who has started with a file that tells its place.

use bytes::Bytes;
use memchr::memmem;

use crate::base::planted::{self, Bug};
use crate::repl::history::{ID_LEN, OFFSET_MAX};
use crate::resp::request::append_command;

/// An answer that is longer than this is none.
const LINE_MAX: usize = 1024;

/// Where we are in the stream of a master: all up to there was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Replication ID of the stream.
    pub id: String,
    /// Offset of the last byte that was applied; -1 if the master is too old to count.
    pub offset: i64,
    /// Database that the stream has selected.
    pub db: u32,
}

/// What the link has to know of the server.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    /// Name or address of the master, and its port.
    pub host: &'a str,
    pub port: u16,
    /// `masteruser` and `masterauth`; empty if there is none.
    pub user: &'a [u8],
    pub password: &'a [u8],
    /// The port and the address that the master is told of; an empty address: what it sees.
    pub own_port: u16,
    pub own_ip: &'a [u8],
    /// `repl-timeout`
    pub timeout_s: u64,
    /// This is a master that hands its role to the one it connects to (FAILOVER).
    pub failing_over: bool,
    /// A full sync is loaded from the socket, without a file.
    pub to_parser: bool,
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a connection to the master; [`Replica::connected`] or [`Replica::failed`] is told.
    Connect,
    /// Close the connection. Nothing that it may still bring is of interest.
    Close,
    Send(Vec<u8>),
    /// The master has agreed to give all data.
    Full,
    /// The data begins: so many bytes, if the master knows.
    Begin(Option<u64>),
    /// Some of the data.
    Data(Bytes),
    /// That was all of it. [`Replica::loaded`] or [`Replica::stopped`] is told what came of it.
    Whole,
    /// No more of it will come: give it up, and tell [`Replica::stopped`].
    GiveUp,
    /// From the next byte on it is the stream, from where we were. The master's ID is now this one, if it has another.
    Continue(Option<String>),
    /// The master took the role over, or it would not (FAILOVER).
    HandedOver(bool),
}

/// An answer that is expected while both greet each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Ping,
    Auth,
    /// To a REPLCONF with this option, which old masters may not know.
    Conf(&'static str),
}

/// How the end of the data is found.
#[derive(Debug)]
enum Extent {
    /// The line that says so has yet to come.
    Unsaid,
    /// So many bytes are left of so many.
    Counted { left: u64, total: u64 },
    /// It ends with this mark; `tail` may be its beginning.
    Marked { mark: [u8; ID_LEN], tail: Vec<u8> },
}

/// A full sync.
#[derive(Debug)]
struct FullSync {
    /// Where the data stands in the stream.
    id: String,
    offset: i64,
    extent: Extent,
    /// Bytes of it that have come.
    read: u64,
    to_parser: bool,
}

#[derive(Debug)]
enum State {
    /// Tries again at the next tick.
    Waiting,
    /// `called`: it is known where the master is, and it was called.
    Connecting {
        called: bool,
    },
    /// These answers are awaited; the rest of the greeting is said when the first has come.
    Greeting(Vec<Answer>),
    /// PSYNC was sent.
    Asking,
    Receiving(FullSync),
    Loading(FullSync),
    /// What was begun to be received or loaded is given up.
    Stopping,
    Online,
}

/// How much of a full sync has come (`master_sync_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// -1 if it is not known yet, 0 if the master does not know.
    pub total: i64,
    pub read: i64,
}

/// See the head of the file.
#[derive(Debug)]
pub struct Replica {
    state: State,
    place: Option<Place>,
    /// Part of a line.
    line: Vec<u8>,
    /// When the master was last heard, unix time in ms.
    heard_ms: u64,
    /// Since when the link that was up is down, likewise.
    down_since_ms: Option<u64>,
    /// Nothing is read for now, so that silence means nothing.
    held: bool,
}

impl Replica {
    /// A link that is not up, from this place.
    pub fn new(place: Option<Place>) -> Replica {
        Replica {
            state: State::Waiting,
            place,
            line: Vec::new(),
            heard_ms: 0,
            down_since_ms: None,
            held: false,
        }
    }

    /// Where we are in the stream.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// The same, to note that the stream went on.
    pub fn place_mut(&mut self) -> Option<&mut Place> {
        self.place.as_mut()
    }

    /// True while the stream of commands flows.
    pub fn is_online(&self) -> bool {
        matches!(self.state, State::Online)
    }

    /// True during a full sync (`master_sync_in_progress`).
    pub fn is_syncing(&self) -> bool {
        matches!(
            self.state,
            State::Receiving(_) | State::Loading(_) | State::Stopping
        )
    }

    /// True while connecting or greeting, which is to be called off by CLIENT KILL or REPLICAOF.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting)
    }

    /// The state by the name that ROLE has for it.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Waiting => "connect",
            State::Connecting { .. } => "connecting",
            State::Greeting(_) | State::Asking => "handshake",
            State::Receiving(_) | State::Loading(_) | State::Stopping => "sync",
            State::Online => "connected",
        }
    }

    /// How much of a full sync has come.
    pub fn transfer(&self) -> Option<Transfer> {
        match &self.state {
            State::Receiving(full) | State::Loading(full) => Some(Transfer {
                total: match full.extent {
                    Extent::Unsaid => -1,
                    Extent::Counted { total, .. } => i64::try_from(total).unwrap_or(i64::MAX),
                    Extent::Marked { .. } => 0,
                },
                read: i64::try_from(full.read).unwrap_or(i64::MAX),
            }),
            State::Stopping => Some(Transfer { total: -1, read: 0 }),
            _ => None,
        }
    }

    /// Where the data of a full sync stands in the stream: the ID, and the offset.
    pub fn syncing_to(&self) -> Option<(&str, i64)> {
        match &self.state {
            State::Receiving(full) | State::Loading(full) => Some((&full.id, full.offset)),
            _ => None,
        }
    }

    /// When the master was last heard, unix time in ms.
    pub fn heard_ms(&self) -> u64 {
        self.heard_ms
    }

    /// The master was heard: the stream brought something.
    pub fn note_heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// Since when the link is down, if it ever was up. Unix time in ms.
    pub fn down_since_ms(&self) -> Option<u64> {
        self.down_since_ms
    }

    /// The connection is over. What is made of that may come later, when the command that runs has ended: how old the data
    /// are counts from now.
    pub fn cut(&mut self, now_ms: u64) {
        if self.is_online() {
            self.down_since_ms.get_or_insert(now_ms);
        }
    }

    /// Nothing is read from the link for a while, or again.
    pub fn hold(&mut self, now_ms: u64, held: bool) {
        self.held = held;
        self.heard_ms = now_ms;
    }

    /// The place is not worth anything any more: the next sync is a full one.
    pub fn forget_place(&mut self) {
        if self.place.take().is_some() {
            log::info!("Discarding previously cached master state.");
        }
    }

    /// Connects, if it only waits to.
    pub fn connect(&mut self, now_ms: u64, facts: &Facts<'_>, out: &mut Vec<Action>) {
        log::info!("Connecting to MASTER {}:{}", facts.host, facts.port);
        self.start(now_ms, out);
    }

    fn start(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        self.state = State::Connecting { called: false };
        self.heard_ms = now_ms;
        self.held = false;
        self.line.clear();
        out.push(Action::Connect);
    }

    /// The master's address is known, and the connection begins.
    pub fn called(&mut self) {
        if matches!(self.state, State::Connecting { called: false }) {
            log::info!("MASTER <-> REPLICA sync started");
            self.state = State::Connecting { called: true };
        }
    }

    /// Tries again at once: it was not the master's refusal.
    fn restart(&mut self, now_ms: u64, facts: &Facts<'_>, why: &str, out: &mut Vec<Action>) {
        log::info!("Reconnecting to MASTER {}:{}{why}", facts.host, facts.port);
        self.start(now_ms, out);
    }

    /// Gives this try up; the next is made at a tick.
    fn give_up(&mut self, out: &mut Vec<Action>) {
        self.state = State::Waiting;
        out.push(Action::Close);
    }

    /// The connection is there.
    pub fn connected(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        if !matches!(self.state, State::Connecting { .. }) {
            return;
        }
        log::info!("Non blocking connect for SYNC fired the event.");
        self.heard_ms = now_ms;
        self.state = State::Greeting(vec![Answer::Ping]);
        out.push(Action::Send(command(&[b"PING"])));
    }

    /// Bytes have come. How many of them were for the link: from there on it is the stream of commands.
    pub fn receive(
        &mut self,
        now_ms: u64,
        facts: &Facts<'_>,
        data: &[u8],
        out: &mut Vec<Action>,
    ) -> usize {
        self.heard_ms = now_ms;
        let mut used = 0;
        while used < data.len() {
            let rest = &data[used..];
            match &mut self.state {
                State::Greeting(_) | State::Asking => {
                    let Some(line) = self.take_line(rest, &mut used) else {
                        break;
                    };
                    self.answered(&line, facts, out);
                }
                State::Receiving(FullSync {
                    extent: Extent::Unsaid,
                    ..
                }) => {
                    let Some(line) = self.take_line(rest, &mut used) else {
                        break;
                    };
                    self.announced(&line, out);
                }
                State::Receiving(full) => {
                    used += full.take(rest, out);
                    if full.is_whole() {
                        out.push(Action::Whole);
                        self.load();
                    }
                }
                State::Online | State::Loading(_) => break,
                State::Waiting | State::Connecting { .. } | State::Stopping => {
                    return data.len();
                }
            }
        }
        used
    }

    fn load(&mut self) {
        if let State::Receiving(full) = std::mem::replace(&mut self.state, State::Waiting) {
            self.state = State::Loading(full);
        }
    }

    /// A whole line without its end, or `None`: its part is kept.
    fn take_line(&mut self, data: &[u8], used: &mut usize) -> Option<Vec<u8>> {
        let end = memchr::memchr(b'\n', data);
        let part = &data[..end.unwrap_or(data.len())];
        self.line.extend_from_slice(part);
        *used += part.len() + usize::from(end.is_some());
        if end.is_none() && self.line.len() < LINE_MAX {
            return None;
        }
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        Some(std::mem::take(&mut self.line))
    }

    fn answered(&mut self, line: &[u8], facts: &Facts<'_>, out: &mut Vec<Action>) {
        let text = String::from_utf8_lossy(line);
        let State::Greeting(awaited) = &mut self.state else {
            return self.psync_answered(line, &text, out, facts);
        };
        let refused = line.first() == Some(&b'-');
        match awaited.remove(0) {
            Answer::Ping => {
                let goes_on = ["+", "-NOAUTH", "-NOPERM", "-ERR operation not permitted"];
                if !goes_on.iter().any(|start| text.starts_with(start)) {
                    log::warn!("Error reply to PING from master: '{text}'");
                    return self.give_up(out);
                }
                log::info!("Master replied to PING, replication can continue...");
                self.greet(facts, out);
                return;
            }
            Answer::Auth if refused => {
                log::warn!("Unable to AUTH to MASTER: {text}");
                return self.give_up(out);
            }
            Answer::Conf(option) if refused => {
                log::info!("(Non critical) Master does not understand REPLCONF {option}: {text}")
            }
            Answer::Auth | Answer::Conf(_) => {}
        }
        if awaited.is_empty() {
            self.ask(facts, out);
        }
    }

    /// Says who we are.
    fn greet(&mut self, facts: &Facts<'_>, out: &mut Vec<Action>) {
        let mut awaited = Vec::new();
        let mut words = Vec::new();
        match (facts.user, facts.password) {
            (_, b"") => {}
            (b"", password) => words.extend(command(&[b"AUTH", password])),
            (user, password) => words.extend(command(&[b"AUTH", user, password])),
        }
        if !words.is_empty() {
            awaited.push(Answer::Auth);
        }
        let port = facts.own_port.to_string();
        words.extend(command(&[b"REPLCONF", b"listening-port", port.as_bytes()]));
        awaited.push(Answer::Conf("listening-port"));
        if !facts.own_ip.is_empty() {
            words.extend(command(&[b"REPLCONF", b"ip-address", facts.own_ip]));
            awaited.push(Answer::Conf("ip-address"));
        }
        words.extend(command(&[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]));
        awaited.push(Answer::Conf("capa"));
        self.state = State::Greeting(awaited);
        out.push(Action::Send(words));
    }

    /// Asks for what we lack.
    fn ask(&mut self, facts: &Facts<'_>, out: &mut Vec<Action>) {
        let (id, from) = match &self.place {
            Some(place) => {
                let from = place.offset.saturating_add(1);
                log::info!(
                    "Trying a partial resynchronization (request {}:{from}).",
                    place.id
                );
                (place.id.as_str(), from)
            }
            None => {
                log::info!("Partial resynchronization not possible (no cached master)");
                ("?", -1)
            }
        };
        let from = from.to_string();
        let mut words: Vec<&[u8]> = vec![b"PSYNC", id.as_bytes(), from.as_bytes()];
        if facts.failing_over {
            words.push(b"FAILOVER");
        }
        out.push(Action::Send(command(&words)));
        self.state = State::Asking;
    }

    fn psync_answered(
        &mut self,
        line: &[u8],
        text: &str,
        out: &mut Vec<Action>,
        facts: &Facts<'_>,
    ) {
        if line.is_empty() {
            // The master only says that it is still there.
            return;
        }
        let accepted = text.starts_with("+FULLRESYNC")
            || (text.starts_with("+CONTINUE") && self.place.is_some());
        if facts.failing_over {
            out.push(Action::HandedOver(accepted));
            if !accepted {
                return;
            }
        }
        if let Some(rest) = text.strip_prefix("+FULLRESYNC") {
            let (id, offset) = full_sync_words(rest).unwrap_or_else(|| {
                log::warn!("Master replied with wrong +FULLRESYNC syntax.");
                (String::new(), -1)
            });
            if offset != -1 {
                log::info!("Full resync from master: {id}:{offset}");
            }
            self.expect_data(id, offset, facts, out);
        } else if accepted {
            self.go_on(text.get(9..).unwrap_or_default(), out);
        } else if text.starts_with("-NOMASTERLINK") || text.starts_with("-LOADING") {
            log::info!("Master is currently unable to PSYNC but should be in the future: {text}");
            self.give_up(out);
        } else {
            if text.starts_with("-ERR") {
                log::info!("Master does not support PSYNC or is in error state (reply: {text})");
            } else {
                log::warn!("Unexpected reply to PSYNC from master: {text}");
            }
            log::info!("Retrying with SYNC...");
            out.push(Action::Send(b"SYNC\r\n".to_vec()));
            self.expect_data(String::new(), -1, facts, out);
        }
    }

    fn expect_data(&mut self, id: String, offset: i64, facts: &Facts<'_>, out: &mut Vec<Action>) {
        self.state = State::Receiving(FullSync {
            id,
            offset,
            extent: Extent::Unsaid,
            read: 0,
            to_parser: facts.to_parser,
        });
        out.push(Action::Full);
    }

    /// `rest` is what follows `+CONTINUE`.
    fn go_on(&mut self, rest: &str, out: &mut Vec<Action>) {
        log::info!("Successful partial resynchronization with master.");
        let told = rest.strip_prefix(' ').filter(|id| id.len() == ID_LEN);
        let renamed = match (&mut self.place, told) {
            (Some(place), Some(id)) if place.id != id => {
                log::info!("Master replication ID changed to {id}");
                place.id = id.to_string();
                Some(id.to_string())
            }
            _ => None,
        };
        self.set_online();
        out.push(Action::Continue(renamed));
        log::info!("MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.");
    }

    fn set_online(&mut self) {
        self.state = State::Online;
        self.down_since_ms = None;
        self.held = false;
    }

    /// The line before the data.
    fn announced(&mut self, line: &[u8], out: &mut Vec<Action>) {
        let State::Receiving(full) = &mut self.state else {
            return;
        };
        let text = String::from_utf8_lossy(line);
        let to = if full.to_parser {
            "to parser"
        } else {
            "to disk"
        };
        match line {
            // The master only says that it is still there.
            [] => {}
            [b'-', ..] => {
                log::warn!("MASTER aborted replication with an error: {}", &text[1..]);
                self.stop(out);
            }
            [b'$', b'E', b'O', b'F', b':', mark @ ..] if mark.len() >= ID_LEN => {
                log::info!(
                    "MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF {to}"
                );
                let mut own = [0; ID_LEN];
                own.copy_from_slice(&mark[..ID_LEN]);
                full.extent = Extent::Marked {
                    mark: own,
                    tail: Vec::new(),
                };
                out.push(Action::Begin(None));
            }
            [b'$', length @ ..] => {
                let total = leading_number(length);
                log::info!("MASTER <-> REPLICA sync: receiving {total} bytes from master {to}");
                full.extent = Extent::Counted { left: total, total };
                out.push(Action::Begin(Some(total)));
                if total == 0 {
                    out.push(Action::Whole);
                    self.load();
                }
            }
            _ => {
                log::warn!(
                    "Bad protocol from MASTER, the first byte is not '$' (we received '{text}'), are you sure the host and port are right?"
                );
                self.stop(out);
            }
        }
    }

    /// A full sync that has begun is given up.
    fn stop(&mut self, out: &mut Vec<Action>) {
        self.state = State::Stopping;
        out.push(Action::Close);
        out.push(Action::GiveUp);
    }

    /// The data is loaded, and the stream had this database selected. The link is up; true if the master is to be told at
    /// once, since it does not know when its data had arrived.
    pub fn loaded(&mut self, now_ms: u64, db: u32) -> bool {
        let State::Loading(full) = std::mem::replace(&mut self.state, State::Waiting) else {
            return false;
        };
        self.heard_ms = now_ms;
        if self.place.is_none() || !planted::on(Bug::OldPlaceKept) {
            self.place = Some(Place {
                id: full.id,
                offset: full.offset,
                db,
            });
        }
        self.set_online();
        matches!(full.extent, Extent::Marked { .. })
    }

    /// What was received or loaded came to nothing, and nothing of it is under way any more.
    pub fn stopped(&mut self, now_ms: u64, facts: &Facts<'_>, out: &mut Vec<Action>) {
        match self.state {
            State::Stopping => {}
            State::Receiving(_) => out.push(Action::Close),
            // All of it came, and it is no good: the next one hardly is sooner than a tick from now.
            State::Loading(_) => return self.give_up(out),
            _ => return,
        }
        self.restart(now_ms, facts, " after failure", out);
    }

    /// The same, but it makes no sense to ask again at once.
    pub fn refused(&mut self, out: &mut Vec<Action>) {
        if self.is_syncing() {
            self.give_up(out);
        }
    }

    /// The connection is gone, or never came to be; `why` in the system's words, none if the master hung up.
    pub fn closed(
        &mut self,
        now_ms: u64,
        facts: &Facts<'_>,
        why: Option<&str>,
        out: &mut Vec<Action>,
    ) {
        let reason = why.unwrap_or("Success");
        match &self.state {
            State::Connecting { called } => {
                match called {
                    true => log::warn!("Error condition on socket for SYNC: {reason}"),
                    false => log::warn!("Unable to connect to MASTER: {reason}"),
                }
                self.state = State::Waiting;
            }
            State::Greeting(_) => {
                log::warn!("Failed to read response from the server: {reason}");
                log::warn!("Master did not respond to command during SYNC handshake");
                self.state = State::Waiting;
            }
            State::Asking => {
                log::warn!("Failed to read response from the server: {reason}");
                log::warn!("Master did not reply to PSYNC, will try later");
                if facts.failing_over {
                    out.push(Action::HandedOver(false));
                }
                self.state = State::Waiting;
            }
            State::Receiving(full) => {
                match (&full.extent, full.to_parser) {
                    (Extent::Unsaid, _) => {
                        log::warn!("I/O error reading bulk count from MASTER: {reason}");
                    }
                    // Who reads it will say so.
                    (_, true) => {}
                    (_, false) => log::warn!(
                        "I/O error trying to sync with MASTER: {}",
                        why.unwrap_or("connection lost")
                    ),
                }
                self.state = State::Stopping;
                out.push(Action::GiveUp);
            }
            State::Online => {
                log::info!("Connection with master lost.");
                self.cut(now_ms);
                match &self.place {
                    Some(place) if place.offset != -1 => {
                        log::info!("Caching the disconnected master state.");
                    }
                    _ => self.place = None,
                }
                self.restart(now_ms, facts, "", out);
            }
            // While it loads, nobody reads; the loss is seen when the stream is.
            State::Waiting | State::Loading(_) | State::Stopping => {}
        }
    }

    /// Time has passed. To be called about once a second.
    pub fn tick(&mut self, now_ms: u64, facts: &Facts<'_>, out: &mut Vec<Action>) {
        let silent = (now_ms / 1000).saturating_sub(self.heard_ms / 1000) > facts.timeout_s;
        match &self.state {
            State::Waiting => self.connect(now_ms, facts, out),
            State::Connecting { .. } | State::Greeting(_) | State::Asking if silent => {
                log::warn!("Timeout connecting to the MASTER...");
                out.push(Action::Close);
                self.restart(now_ms, facts, " after failure", out);
            }
            State::Receiving(_) if silent && !self.held => {
                log::warn!(
                    "Timeout receiving bulk data from MASTER... If the problem persists try to set the 'repl-timeout' parameter in redis.conf to a larger value."
                );
                self.stop(out);
            }
            // The master must not think that we are gone.
            State::Receiving(full) if full.to_parser && full.read > 0 => {
                out.push(Action::Send(b"\n".to_vec()));
            }
            State::Loading(_) => out.push(Action::Send(b"\n".to_vec())),
            State::Online if silent => {
                log::warn!("MASTER timeout: no data nor PING received...");
                out.push(Action::Close);
                self.closed(now_ms, facts, None, out);
            }
            _ => {}
        }
    }
}

impl FullSync {
    fn is_whole(&self) -> bool {
        match &self.extent {
            Extent::Counted { left, .. } => *left == 0,
            // (What is left of the tail is the mark itself.)
            Extent::Marked { mark, tail } => tail == mark,
            Extent::Unsaid => false,
        }
    }

    /// Hands on what is data; how many bytes were.
    fn take(&mut self, data: &[u8], out: &mut Vec<Action>) -> usize {
        match &mut self.extent {
            Extent::Unsaid => 0,
            Extent::Counted { left, .. } => {
                let n = usize::try_from(*left).map_or(data.len(), |left| left.min(data.len()));
                *left -= n as u64;
                self.read += n as u64;
                out.push(Action::Data(Bytes::copy_from_slice(&data[..n])));
                n
            }
            Extent::Marked { mark, tail } => {
                let before = tail.len();
                tail.extend_from_slice(data);
                let (data_end, used) = match memmem::find(tail, mark) {
                    Some(at) => (at, at + ID_LEN - before),
                    // Its beginning may be the beginning of the mark.
                    None => (tail.len().saturating_sub(ID_LEN - 1), data.len()),
                };
                let kept = tail[data_end..before + used].to_vec();
                let mut whole = std::mem::replace(tail, kept);
                whole.truncate(data_end);
                self.read += data_end as u64;
                if !whole.is_empty() {
                    out.push(Action::Data(Bytes::from(whole)));
                }
                used
            }
        }
    }
}

/// A command as it is sent.
pub fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_command(words, &mut bytes);
    bytes
}

/// The ID and the offset behind `+FULLRESYNC`.
fn full_sync_words(text: &str) -> Option<(String, i64)> {
    let (id, offset) = text.strip_prefix(' ')?.split_once(' ')?;
    let offset = offset.trim().parse().ok();
    let offset = offset.filter(|offset| (0..OFFSET_MAX).contains(offset))?;
    (id.len() == ID_LEN && id.is_ascii()).then(|| (id.to_string(), offset))
}

/// The number that some bytes begin with, 0 if they begin with none.
fn leading_number(bytes: &[u8]) -> u64 {
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let digits = std::str::from_utf8(&bytes[..digits]).unwrap_or_default();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests;
